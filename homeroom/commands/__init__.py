"""The commands of `homeroom`, one module each."""
