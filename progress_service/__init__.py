"""What a learner has achieved: session results, statistics and XP."""
