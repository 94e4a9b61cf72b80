"""What `make check` holds about the sources themselves: no server, no database, only reading."""
