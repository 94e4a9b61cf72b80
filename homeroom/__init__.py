"""The command line: run, watch and try a Homeroom stack."""
