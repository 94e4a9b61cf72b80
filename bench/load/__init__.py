"""The load: its learners, tokens and keys, and the programs that generate it."""
