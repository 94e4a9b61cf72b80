"""How the cost of a hold grows with the data."""
