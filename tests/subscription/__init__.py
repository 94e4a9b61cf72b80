"""subscription_service: quota, holds, credits, subscriptions and licenses, against real PostgreSQL."""
