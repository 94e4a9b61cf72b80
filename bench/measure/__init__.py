"""What the systems under load cost: CPU, memory, and profiles."""
