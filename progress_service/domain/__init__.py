"""What results, statistics and streaks are, and how a result changes them; pure."""
