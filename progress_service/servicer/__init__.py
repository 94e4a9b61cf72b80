"""protobuf in, domain; domain in, protobuf."""
