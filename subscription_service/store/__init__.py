"""All SQL of the service. To change a learner: lock the account's row, read, decide, write, commit."""
