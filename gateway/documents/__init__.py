"""What the gateway says of itself: `/openapi.json`, its viewer at `/docs`, and a page for each reason."""
