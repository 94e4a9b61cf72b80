"""Session results, statistics and streaks, and how a result changes them; pure."""
