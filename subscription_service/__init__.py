"""What a learner is entitled to: accounts, plans, daily quota, holds, credits, licenses."""
