"""What is seen of a process from outside: logs, traces, metrics, health."""
