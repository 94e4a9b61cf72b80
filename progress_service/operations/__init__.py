"""The use cases of progress_service: one method per RPC, each for a list of requests."""
