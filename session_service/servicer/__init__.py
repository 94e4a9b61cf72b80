"""Protobuf on the outside, domain on the inside."""
