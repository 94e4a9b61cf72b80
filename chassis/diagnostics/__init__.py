"""Diagnosis and repair: checks find what is wrong in a store, and repairs mend it by a plan."""
