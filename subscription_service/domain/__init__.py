"""What entitlement means, without a database or a network: plans, subscriptions, holds, credits, licenses."""
