"""Calls between processes: the gRPC server, the client of another process, and how a method is served."""
