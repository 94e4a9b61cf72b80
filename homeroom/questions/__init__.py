"""Question files: each format is read into one small model, and written from it."""
