"""Converts protobuf messages to the domain, and back."""
