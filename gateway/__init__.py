"""The HTTP front door: authentication, keys, limits, JSON in and out; it owns no data."""
