"""The use cases: one method per RPC. Each takes the items of a batch and answers each of them."""
