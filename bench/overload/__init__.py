"""What happens when there is too much, or when something is down."""
