"""Load, peers and results: every speed claim has its command here."""
