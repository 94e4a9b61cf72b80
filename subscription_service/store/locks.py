"""The lock of a learner: their row in accounts. Every mutation of a learner's state begins here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chassis.errors import ServiceError
from chassis.postgres import Connection
from chassis.postgres.isolation import Locked
from subscription_service.domain.accounts import AccountStatus, invalid_user_reference


@dataclass(frozen=True, slots=True)
class LockedLearners:
    """The accounts that this transaction has locked, and those that another one holds.

    An account in neither does not exist.
    """

    statuses: dict[str, AccountStatus]
    held_by_another: frozenset[str]

    def refusal(self, user_id: str) -> ServiceError | Locked:
        """The outcome of a request for an account that is not locked here."""
        return Locked.HELD_BY_ANOTHER if user_id in self.held_by_another else invalid_user_reference()

    def refusal_unless_active(self, user_id: str) -> ServiceError | Locked | None:
        """The outcome of a request that only an active account may make; None when it is active."""
        status = self.statuses.get(user_id)
        if status is None:
            return self.refusal(user_id)
        return None if status is AccountStatus.ACTIVE else invalid_user_reference()


async def lock_learners(connection: Connection, user_ids: Collection[str], *, wait: bool) -> LockedLearners:
    """Lock the accounts in the order of their ids, so that transactions cannot deadlock each other.

    Without `wait`, accounts that another transaction has locked are passed over. With it, the transaction's
    lock timeout limits the wait. Read everything else in later statements: this one saw the other tables as
    they were before the lock was granted.
    """
    wanted = sorted(set(user_ids))
    rows = await connection.fetch(_LOCK_OR_WAIT if wait else _LOCK_WHAT_IS_FREE, wanted)
    statuses = {row["user_id"]: AccountStatus(row["status"]) for row in rows}
    if len(statuses) == len(wanted):
        return LockedLearners(statuses, _NONE)
    missing = [user_id for user_id in wanted if user_id not in statuses]
    rows = await connection.fetch(
        """
        SELECT account.user_id
          FROM unnest($1::text[]) AS wanted (user_id)
         CROSS JOIN LATERAL (SELECT user_id FROM accounts WHERE user_id = wanted.user_id LIMIT 1) AS account
        """,
        missing,
    )
    return LockedLearners(statuses, frozenset(row["user_id"] for row in rows))


_NONE: frozenset[str] = frozenset()

# Here and everywhere, the LIMIT keeps the lookups apart: one index probe each, in the order of the array.
# Otherwise the planner joins while the tables are small, and that plan reads all of the tables later.
# NO KEY: other transactions may still insert rows that refer to the account.
_LOCK_WHAT_IS_FREE = """
    SELECT account.user_id, account.status
      FROM unnest($1::text[]) AS wanted (user_id)
     CROSS JOIN LATERAL (SELECT user_id, status
                           FROM accounts
                          WHERE user_id = wanted.user_id
                          LIMIT 1
                            FOR NO KEY UPDATE SKIP LOCKED) AS account
"""
_LOCK_OR_WAIT = """
    SELECT account.user_id, account.status
      FROM unnest($1::text[]) AS wanted (user_id)
     CROSS JOIN LATERAL (SELECT user_id, status
                           FROM accounts
                          WHERE user_id = wanted.user_id
                          LIMIT 1
                            FOR NO KEY UPDATE) AS account
"""

# For a repair, which changes the rows of one learner after the other.
LOCK_LEARNER = "SELECT FROM accounts WHERE user_id = $1 FOR NO KEY UPDATE"
