"""The telemetry of a process: logs, traces, metrics and health."""
