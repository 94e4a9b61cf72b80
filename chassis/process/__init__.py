"""The life of a process: configuration, begin and end, background work."""
