"""What every Homeroom process stands on; it knows no service."""
