"""Earning: how each operation adds to the XP ledger, the totals, the levels and the achievements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import asyncpg

from chassis.postgres import Connection
from chassis.postgres.rows import RowType
from progress_service.domain.earnings import Earned, Earning, Gain, LevelChange
from progress_service.domain.statistics import UserId
from progress_service.store.achievements import ActivityDay, award
from progress_service.store.learners import read_versions
from progress_service.store.levels import raise_levels

EARNING = RowType(
    "earning",
    """
    user_id text, operation_id uuid, earned_at timestamptz, specialization text, xp integer, active_day date,
    enrolled bigint, completed_lessons bigint, completed_sessions bigint, questions_answered bigint,
    answers bigint, correct bigint
    """,
)

# An earning belongs to the epoch in which it was earned. It adds to the level only while this epoch lasts.
#
# The planner expects few rows, so a join probes the index of a table. The parts of this statement are not
# joined with each other: with thousands of rows, as an import has, that could compare each with each.
_COUNT = f"""
    WITH told AS MATERIALIZED (
        SELECT DISTINCT ON (earning.user_id, earning.operation_id)
               earning.*, coalesce(epochs.then, 0) AS epoch, coalesce(epochs.now, 0) AS current_epoch
          FROM {EARNING.unnest(1)} AS earning
         CROSS JOIN LATERAL (
               SELECT max(reset.epoch) FILTER (WHERE reset.reset_at <= earning.earned_at) AS then,
                      max(reset.epoch) AS now
                 FROM progress_resets AS reset
                WHERE reset.user_id = earning.user_id
                  AND (reset.scope = 'all'
                       OR (reset.scope = 'specialization' AND reset.name = earning.specialization))
               ) AS epochs
         ORDER BY earning.user_id, earning.operation_id
    ), entered AS (
        INSERT INTO xp_entries (user_id, operation_id, amount, specialization, earned_at, epoch)
        SELECT user_id, operation_id, xp, specialization, earned_at, epoch
          FROM told
         WHERE xp > 0
            ON CONFLICT ON CONSTRAINT xp_entries_once DO NOTHING
        RETURNING user_id, operation_id
    ), counted AS (
        SELECT *
          FROM told
         WHERE xp = 0 OR (user_id, operation_id) IN (SELECT user_id, operation_id FROM entered)
    ), active AS (
        INSERT INTO activity_days (user_id, day)
        SELECT DISTINCT user_id, active_day
          FROM counted
         WHERE active_day IS NOT NULL
         ORDER BY user_id, active_day
            ON CONFLICT ON CONSTRAINT activity_days_once DO NOTHING
    ), added AS (
        SELECT user_id,
               count(*) AS operations,
               sum(xp) AS xp,
               sum(enrolled) AS enrolled,
               sum(completed_lessons) AS completed_lessons,
               sum(completed_sessions) AS completed_sessions,
               sum(questions_answered) AS questions_answered,
               sum(answers) AS answers,
               sum(correct) AS correct
          FROM counted
         GROUP BY user_id
    ), totals AS (
        UPDATE learner_statistics AS known
           SET xp = known.xp + added.xp,
               enrolled = known.enrolled + added.enrolled,
               completed_lessons = known.completed_lessons + added.completed_lessons,
               completed_sessions = known.completed_sessions + added.completed_sessions,
               questions_answered = known.questions_answered + added.questions_answered,
               answers = known.answers + added.answers,
               correct = known.correct + added.correct,
               version = known.version + added.operations,
               updated_at = clock_timestamp()
          FROM added
         WHERE known.user_id = added.user_id
        RETURNING known.user_id, known.version, added.xp
    ), gained AS (
        SELECT user_id, specialization, current_epoch AS epoch, sum(xp) AS xp
          FROM counted
         WHERE xp > 0 AND specialization <> '' AND epoch = current_epoch
         GROUP BY user_id, specialization, current_epoch
    )
    SELECT user_id, version, xp::bigint AS xp, NULL AS specialization, NULL AS epoch
      FROM totals
     UNION ALL
    SELECT user_id, NULL, xp::bigint, specialization, epoch
      FROM gained
"""


async def earn(
    connection: Connection, earnings: Sequence[Earning], *, tell: bool = True
) -> dict[UserId, Earned]:
    """Count these earnings inside the caller's transaction; what they came to, for each of their learners.

    The learners must be locked by their rows of totals (`store/learners.py`). An operation id that is in the
    ledger already earns nothing. An earning without XP leaves no entry in the ledger, so its caller must know
    that it is new, by a unique row of its own. Each earning that counts raises its learner's version by one.

    If an `Earned` has levels, wake the relay after the commit. Without `tell`, subscription_service is told
    nothing, and the caller has to see to it that the licenses follow.
    """
    if not earnings:
        return {}
    learners = sorted({earning.user_id for earning in earnings})
    totals: dict[UserId, tuple[int, int]] = {}
    gains: list[Gain] = []
    for row in await connection.fetch(_COUNT, EARNING.values(earnings)):
        if row["version"] is None:
            gains.append(_gain(row))
        else:
            totals[UserId(row["user_id"])] = row["version"], row["xp"]
    if unchanged := [user_id for user_id in learners if user_id not in totals]:
        versions = await read_versions(connection, unchanged)
        totals |= {user_id: (version, 0) for user_id, version in versions.items()}
    levels: dict[UserId, list[LevelChange]] = defaultdict(list)
    for change in await raise_levels(connection, gains, tell=tell):
        levels[change.user_id].append(change)
    achievements = await award(
        connection,
        learners,
        days=[
            ActivityDay(earning.user_id, earning.active_day)
            for earning in earnings
            if earning.active_day is not None
        ],
    )
    return {
        user_id: Earned(
            version=version,
            xp=xp,
            levels=tuple(levels.get(user_id, ())),
            achievements=achievements.get(user_id, ()),
        )
        for user_id, (version, xp) in totals.items()
    }


def _gain(row: asyncpg.Record) -> Gain:
    return Gain(
        user_id=UserId(row["user_id"]),
        specialization=row["specialization"],
        xp=row["xp"],
        epoch=row["epoch"],
    )
