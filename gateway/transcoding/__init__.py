"""JSON over HTTP ⇄ protobuf messages; each type is compiled from its descriptor at the start."""
