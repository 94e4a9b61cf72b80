"""Plays what real learners once did through a stack's HTTP gateway, and compares what came of it."""
