"""What progress_service promises, against a real PostgreSQL."""
