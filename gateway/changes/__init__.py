"""`GET /v1/events`: what has changed for each learner who listens, asked of all services."""
