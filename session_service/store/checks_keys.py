"""What the stored keys tell of the starts of the last hour, from the newest keys."""

from __future__ import annotations

import orjson

from chassis.diagnostics.checks import Check, Place, Scope, Step, found_from, reading
from chassis.postgres import Connection, Database

KEYS_LOOKED_AT_MAX = 10_000
ABORTED_SHARE_MAX = 0.05
ABORTED_MIN = 50
"""Fewer aborted starts tell of single learners, not of a disturbance."""
STARTS_MAX = 200
STARTS_ABORTED_MAX = 20


class RecentStartsWalk:
    """One step over the newest keys.

    Args:
        method: the RPC that starts sessions.
        of_learners: whether each learner is looked at, or all starts together.
    """

    def __init__(self, database: Database, *, method: str, of_learners: bool) -> None:
        self._database = database
        self._method = method
        self._statement = _OF_LEARNERS if of_learners else _OF_ALL
        self._of_learners = of_learners

    async def step(
        self,
        check: Check,
        scope: Scope,
        after: Place | None,  # noqa: ARG002 - there is one step
        *,
        limit: int,
        deadline: float,
    ) -> Step:
        """See `Walk`. `limit` is passed over: the statement has its own. A rate is of no single learner."""
        del limit
        if scope.user_id and not self._of_learners:
            return Step([], 0, None)

        async def work(connection: Connection) -> Step:
            async with reading(connection):
                rows = await connection.fetch(self._statement, self._method, scope.user_id)
            found = [
                found_from(
                    check,
                    {**row, "row": orjson.loads(row["row"]), "evidence": orjson.loads(row["evidence"])},
                )
                for row in rows
            ]
            return Step(found, KEYS_LOOKED_AT_MAX, None)

        return await self._database.read(work, deadline=deadline, name="check_recent_keys")


_RECENT = f"""
    FROM (
         SELECT user_id, method, state, created_at
           FROM idempotency_keys
          ORDER BY created_at DESC
          LIMIT {KEYS_LOOKED_AT_MAX}
         ) AS recent
   WHERE method = $1 AND created_at > clock_timestamp() - interval '1 hour' AND ($2 = '' OR user_id = $2)
"""
_OF_ALL = f"""
    SELECT '' AS user_id, '{{}}'::jsonb AS row,
           format('%s of %s starts were aborted', aborted, starts) AS observed,
           'at most {ABORTED_SHARE_MAX:.0%}' AS expected, NULL::text AS since,
           jsonb_build_object('firstAt', first_at) AS evidence
      FROM (SELECT count(*) AS starts, count(*) FILTER (WHERE state = 'aborted') AS aborted,
                   min(created_at) AS first_at {_RECENT}) AS counted
     WHERE aborted >= {ABORTED_MIN} AND aborted > starts * {ABORTED_SHARE_MAX}
"""
_OF_LEARNERS = f"""
    SELECT user_id, jsonb_build_object('user_id', user_id) AS row,
           format('%s starts in an hour, %s of them aborted', starts, aborted) AS observed,
           'fewer than {STARTS_MAX}, and fewer than {STARTS_ABORTED_MAX} aborted' AS expected,
           NULL::text AS since, jsonb_build_object('firstAt', first_at) AS evidence
      FROM (SELECT user_id, count(*) AS starts, count(*) FILTER (WHERE state = 'aborted') AS aborted,
                   min(created_at) AS first_at {_RECENT} GROUP BY user_id) AS counted
     WHERE starts >= {STARTS_MAX} OR aborted >= {STARTS_ABORTED_MAX}
     ORDER BY user_id
"""
