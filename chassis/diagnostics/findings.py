"""What a check finds: one row, or one fact, that is not as it must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

EVIDENCE_ENTRIES_MAX = 20
TEXT_CHARACTERS_MAX = 500


class Severity(IntEnum):
    """How bad a finding is, for a learner. The order is that of their weight."""

    INFO = 1
    """Worth knowing; nothing is wrong."""
    LOW = 2
    """Untidy; no learner can see it."""
    MEDIUM = 3
    """A learner may see something odd."""
    HIGH = 4
    """A learner sees a wrong number or state."""
    CRITICAL = 5
    """A learner has lost something, or is kept from learning; or the service cannot do its work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    `row` names the row by its key columns. `observed` and `expected` are short texts that a person compares.
    `evidence` has more facts, by name; it never has another learner's data, an answer's text, a token or an
    e-mail address. `since` is when it became wrong, as far as the store can tell. A finding about the process
    or the whole store has no `user_id`.
    """

    check: str
    severity: Severity
    observed: str
    expected: str
    user_id: str = ""
    row: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)
