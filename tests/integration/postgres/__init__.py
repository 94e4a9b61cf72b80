"""The database layer against a real server."""
