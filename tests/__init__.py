"""Tests against real PostgreSQL, Redis and gRPC."""
