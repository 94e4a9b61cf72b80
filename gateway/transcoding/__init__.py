"""JSON over HTTP ⇄ protobuf messages, compiled from the descriptors at start-up."""
