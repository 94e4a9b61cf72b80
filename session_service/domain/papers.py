"""The paper of a session: which questions it asks, in which order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chassis.errors import invalid_field
from chassis.frozen import quick
from session_service.domain.tests import Edition, Question


class Draw(NamedTuple):
    """What a start has drawn of an edition.

    `drawn` has the places of the questions in the edition's pool, in the order in which they are asked. It is
    None when the session asks the edition's questions as they are, and then nothing is stored of a draw.
    `seed` is that of the shuffle; it is None when nothing was left to chance.
    """

    seed: int | None
    drawn: tuple[int, ...] | None


AS_THEY_ARE = Draw(None, None)


@quick
@dataclass(frozen=True, slots=True)
class Paper:
    """What one session asks: the questions of an edition, or those that were drawn from its pool."""

    edition: Edition
    drawn: Sequence[int] | None

    @property
    def questions(self) -> Sequence[Question]:
        """The questions in the order in which they are asked."""
        if self.drawn is None:
            return self.edition.questions
        return [self.edition.pool[place] for place in self.drawn]

    def asks(self, question_id: str) -> bool:
        """Whether this is one of the paper's questions."""
        place = self.edition.place_of(question_id)
        if place is None:
            return False
        return place < self.edition.total if self.drawn is None else place in self.drawn


def draw_paper(edition: Edition, difficulty: str | None, new_seed: Callable[[], int]) -> Draw:
    """Choose the questions of a new session.

    A test that has more questions than `question_count` asks so many of them, chosen and ordered by chance.
    One that has no more asks all of them in their order. With a difficulty, only the questions of this
    difficulty, and those without any, are asked; a test whose questions have no difficulty ignores it.

    Raises:
        ServiceError: INVALID_ARGUMENT, when no question has this difficulty.
    """
    pool = edition.pool
    places = edition.places_of_difficulty(difficulty) if difficulty is not None else range(len(pool))
    if pool and not places:
        raise invalid_field("difficulty", "no question of this test has it")
    count = edition.definition.question_count
    if count == 0 or len(places) == len(pool) <= count:
        return AS_THEY_ARE
    if len(places) <= count:
        return Draw(None, tuple(places))
    seed = new_seed()
    # The shuffle decides nothing that must be kept from a learner, and the seed comes from a good source.
    return Draw(seed, tuple(random.Random(seed).sample(places, count)))  # noqa: S311 - see above
