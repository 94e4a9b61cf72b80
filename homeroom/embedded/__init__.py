"""PostgreSQL and Redis as children of the supervisor, from wheels, for development and tests."""
