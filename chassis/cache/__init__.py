"""Values of PostgreSQL, kept in Redis for a few seconds. Redis may be absent, slow, flushed or wrong."""
