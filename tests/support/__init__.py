"""What tests stand on: real databases and real processes, made quickly and thrown away."""
