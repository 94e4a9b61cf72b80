"""The use cases: one function per RPC, each takes a batch and answers each of its requests."""
