"""The row of a learner's totals, which is also the lock on everything of that learner."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from chassis.diagnostics.repairs import Version
from chassis.postgres import PATIENCE, Connection, Database
from progress_service.domain.statistics import UserId

# Ids that a process remembers: about 150 bytes each.
KNOWN_MAX = 50_000

_INSERT_LEARNERS = f"""
    WITH {PATIENCE}
    INSERT INTO learner_statistics (user_id)
    SELECT user_id
      FROM (SELECT DISTINCT unnest($1::text[]) AS user_id) AS learner
     CROSS JOIN patience
     WHERE NOT EXISTS (SELECT 1
                         FROM learner_statistics AS known
                        WHERE known.user_id = learner.user_id)
     ORDER BY user_id
        ON CONFLICT DO NOTHING
"""

# One probe of the primary key for each learner, in the order of the parameter. The subquery hides its length
# from the planner; see `RowType.unnest`.
_LOCK_LEARNERS = """
    SELECT learner.user_id
      FROM unnest((SELECT $1::text[])) AS wanted (user_id)
     CROSS JOIN LATERAL (
           SELECT user_id
             FROM learner_statistics
            WHERE user_id = wanted.user_id
            LIMIT 1
              FOR NO KEY UPDATE
           ) AS learner
"""
LOCK_LEARNER = "SELECT user_id FROM learner_statistics WHERE user_id = $1 FOR NO KEY UPDATE"
"""As a repair locks a learner."""
VERSIONS = {"learner_statistics": Version(), "specialization_progress": Version()}
"""The versions of a learner, as a repair raises them."""
_LOCK_FREE_LEARNERS = _LOCK_LEARNERS.replace("NO KEY UPDATE", "NO KEY UPDATE SKIP LOCKED")


_READ_VERSIONS = """
    SELECT known.user_id, known.version
      FROM unnest((SELECT $1::text[])) AS wanted (user_id)
     CROSS JOIN LATERAL (
           SELECT user_id, version
             FROM learner_statistics
            WHERE user_id = wanted.user_id
            LIMIT 1
           ) AS known
"""


async def insert_learners(database: Database, user_ids: Collection[UserId], *, deadline: float) -> None:
    """Give each learner a row of totals, before the transaction that locks it.

    This statement waits for a transaction that inserts the same learner and has not ended yet. It sets its
    own lock timeout, so that such a transaction delays the batch for a quarter of a second at most.
    Raises what `Database` raises.
    """
    await database.execute_write(_INSERT_LEARNERS, list(user_ids), deadline=deadline, name="insert_learners")


class LearnerRows:
    """Gives learners their rows, and remembers who has one: such a row is never deleted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[UserId, None] = {}

    async def ensure(self, user_ids: Collection[UserId], *, certainly: bool, deadline: float) -> None:
        """Give each of these learners a row; see `insert_learners`.

        Unless `certainly`, those whom this process remembers are left out. If their rows are gone all the
        same, because somebody has restored an older database, their locks cannot be taken.
        """
        wanted = {each for each in user_ids if certainly or each not in self._known}
        if not wanted:
            return
        await insert_learners(self._database, wanted, deadline=deadline)
        self._known.update(dict.fromkeys(wanted))
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]


async def add_learners(connection: Connection, user_ids: Collection[UserId]) -> None:
    """The same inside the caller's transaction, whose lock timeout is a quarter of a second from then on."""
    await connection.execute(_INSERT_LEARNERS, list(user_ids))


async def lock_learners(
    connection: Connection, user_ids: Iterable[UserId], *, wait: bool
) -> frozenset[UserId]:
    """Lock these learners in order; the ones that are locked now.

    Without `wait`, a learner whom another transaction holds is passed over. What is read afterwards needs a
    statement of its own: the snapshot of this one may be older than its locks.
    """
    rows = await connection.fetch(_LOCK_LEARNERS if wait else _LOCK_FREE_LEARNERS, sorted(set(user_ids)))
    return frozenset(UserId(row["user_id"]) for row in rows)


async def read_versions(connection: Connection, user_ids: Sequence[UserId]) -> dict[UserId, int]:
    """The versions of these learners; those without a row are absent."""
    rows = await connection.fetch(_READ_VERSIONS, user_ids)
    return {UserId(row["user_id"]): row["version"] for row in rows}


async def raise_versions(connection: Connection, user_ids: Collection[UserId]) -> None:
    """Raise the versions of these learners, who must be locked: what they have is not what it was."""
    await connection.execute(
        """
        UPDATE learner_statistics
           SET version = version + 1, updated_at = clock_timestamp()
         WHERE user_id = ANY($1::text[])
        """,
        list(user_ids),
    )
