"""What a test, a session and an answer are, and which moves are legal; no input or output."""
