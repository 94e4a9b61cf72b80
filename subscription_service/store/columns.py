"""A table's columns, spelled once: with their types for rows on their way in, as names everywhere else."""

from __future__ import annotations


def names(definition: str, *, of: str = "") -> str:
    """Turns `user_id text, day date` into `user_id, day`, or into `kept.user_id, kept.day` of a table."""
    columns = [column.split()[0] for column in definition.split(",")]
    return ", ".join(f"{of}.{column}" if of else column for column in columns)


def prefixed(definition: str, *, of: str) -> str:
    """The columns of a table under names of their own: `rival.day AS rival_day`."""
    columns = [column.split()[0] for column in definition.split(",")]
    return ", ".join(f"{of}.{column} AS {of}_{column}" for column in columns)
