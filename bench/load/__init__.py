"""The load: who asks, with which tokens and keys, and how hard."""
