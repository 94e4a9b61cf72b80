"""session_service on a real database, beside a real subscription_service and progress_service over gRPC."""
