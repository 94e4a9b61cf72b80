"""The use cases of progress_service: one function per RPC, each for a list of requests."""
