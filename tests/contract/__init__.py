"""`/openapi.json`, played against a running stack."""
