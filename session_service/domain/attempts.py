"""What a learner has done with their attempts at a test; `uses_attempt` says what an attempt is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """How many attempts a learner has used, and their best score; None when no session has ended.

    `max_attempts` is that of the test as it is now; None when it sets no limit.
    """

    test_id: str
    used: int
    max_attempts: int | None
    best_score: float | None

    @property
    def left(self) -> int | None:
        """How many attempts are left; None without a limit. A limit that was lowered later leaves none."""
        return None if self.max_attempts is None else max(0, self.max_attempts - self.used)
