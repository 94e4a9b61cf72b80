"""The gateway over real HTTP, in front of real gRPC servers whose answers a test decides."""
