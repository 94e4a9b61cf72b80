"""Between the contract and the operations: protobuf messages in, protobuf messages out."""
