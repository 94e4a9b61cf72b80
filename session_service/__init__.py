"""Tests and their questions, sessions, answers and time."""
