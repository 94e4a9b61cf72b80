"""Specializations in the catalog, and what learners have in them, for tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.postgres import Connection
from progress_service.domain.license_orders import LICENSE_TOPIC, LicenseOrder

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Standing:
    """What a learner has in a specialization."""

    xp: int
    level: int
    max_level: int
    granted_level: int
    epoch: int


def specialization_name(name: str = "PLAYER") -> str:
    """A specialization that no other test uses."""
    return f"{name}-{next(_numbers)}"


async def put_levels(truth: Connection, specialization: str, requirements: Sequence[int]) -> None:
    """A specialization whose levels require this XP; the first one must require none."""
    async with truth.transaction():
        await truth.execute(
            """
            INSERT INTO specializations AS known (specialization, name, version, updated_at)
            VALUES ($1, $1, 2, now())
                ON CONFLICT (specialization) DO UPDATE SET version = known.version + 1, updated_at = now()
            """,
            specialization,
        )
        await truth.execute("DELETE FROM specialization_levels WHERE specialization = $1", specialization)
        await truth.execute(
            """
            INSERT INTO specialization_levels (specialization, level, name, xp_required)
            SELECT $1, level, 'Level ' || level, xp_required
              FROM unnest($2::integer[]) WITH ORDINALITY AS rung (xp_required, level)
            """,
            specialization,
            list(requirements),
        )


async def standing(truth: Connection, user_id: str, specialization: str) -> Standing | None:
    row = await truth.fetchrow(
        """
        SELECT xp, level, max_level, granted_level, epoch
          FROM specialization_progress
         WHERE user_id = $1 AND specialization = $2
        """,
        user_id,
        specialization,
    )
    return None if row is None else Standing(**dict(row))


async def orders(truth: Connection, user_id: str) -> list[LicenseOrder]:
    """The orders about a learner's licenses that wait in the outbox, in the order of their levels."""
    rows = await truth.fetch(
        "SELECT payload FROM outbox WHERE user_id = $1 AND topic = $2", user_id, LICENSE_TOPIC
    )
    found = [LicenseOrder.parse(row["payload"]) for row in rows]
    return sorted(found, key=lambda order: (order.specialization, order.epoch, order.level, order.max_level))


async def achievements(truth: Connection, user_id: str) -> set[str]:
    rows = await truth.fetch("SELECT achievement FROM learner_achievements WHERE user_id = $1", user_id)
    return {row["achievement"] for row in rows}
