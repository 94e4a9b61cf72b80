"""Backups of the embedded stack's databases, with PostgreSQL's own tools, and what restores them."""
