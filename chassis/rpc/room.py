"""Which answers of a batch get the room that one message has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chassis.errors import Reason, ServiceError


def in_turns(users: Sequence[str]) -> list[int]:
    """The places of a batch, reordered: the first of each user, then the second of each, and so on.

    So one learner who reads something large 250 times takes no room from the others in the batch.
    """
    before: Counter[str] = Counter()
    turns: list[int] = []
    for user in users:
        turns.append(before[user])
        before[user] += 1
    return sorted(range(len(users)), key=turns.__getitem__)


def no_room() -> ServiceError:
    """The refusal of an answer that does not fit. Its effect may be committed; a retry finds it."""
    return ServiceError(
        Reason.OVERLOADED, "The answers of one message were too large together", retry_after_seconds=0.1
    )
