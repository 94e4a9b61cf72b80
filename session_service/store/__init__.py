"""All SQL of the session service."""
