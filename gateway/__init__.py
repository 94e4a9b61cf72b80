"""The HTTP gateway: authentication, idempotency keys, limits, and JSON transcoding. It owns no data."""
