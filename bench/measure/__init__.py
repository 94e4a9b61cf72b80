"""What the systems under load cost: CPU, memory, and where the time goes."""
