"""What a competent team would build instead, doing the same work on the same PostgreSQL."""
