"""What courses and lessons promise, against a real PostgreSQL, Redis and subscription_service."""
