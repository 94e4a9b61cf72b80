"""What the service does: one function per RPC, each on a list of requests."""
