"""All SQL of progress_service."""
