"""What a process needs around it: each fault that a check looks for is planted, and found."""
