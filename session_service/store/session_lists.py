"""Lists of a learner's sessions, in pages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from chassis.batch import Item
from chassis.postgres import Connection, Database
from chassis.rpc.paging import Page
from session_service.domain.sessions import ListRequest, Session
from session_service.domain.states import LIVE_STATES
from session_service.store.editions import EditionCache
from session_service.store.session_rows import LIVE, SESSION_COLUMNS, USES_ATTEMPT
from session_service.store.sessions import sessions_as_of

# Above every id of a session, and above every number of one: a list begins below it.
ID_MAX = uuid.UUID("ffffffff-ffff-ffff-ffff-ffffffffffff")
NUMBER_MAX = 2**31 - 1


class SessionLists:
    """Reads lists of sessions. New sessions come before the first page, so no page changes for them."""

    def __init__(self, *, database: Database, editions: EditionCache, grace: timedelta) -> None:
        self._database = database
        self._editions = editions
        self._grace = grace

    async def list_sessions(self, item: Item[ListRequest], page: Page) -> list[Session]:
        """A learner's sessions, newest first: their ids sort by time."""
        (before,) = page.after or (ID_MAX,)
        sql, arguments = statement_of(item.request, before=before, limit=page.limit, grace=self._grace)
        return await self._read(sql, arguments, item.deadline, "list_sessions")

    async def list_attempts(self, item: Item[str], page: Page) -> list[Session]:
        """The caller's sessions of this test that use an attempt, the latest first."""
        (before,) = page.after or (NUMBER_MAX,)
        arguments = [item.user_id, item.request, before, page.limit]
        return await self._read(_LIST_ATTEMPTS, arguments, item.deadline, "list_attempts")

    async def _read(self, sql: str, arguments: Sequence[object], deadline: float, name: str) -> list[Session]:
        async def work(connection: Connection) -> list[Session]:
            rows = await connection.fetch(sql, *arguments)
            return await sessions_as_of(connection, rows, editions=self._editions, grace=self._grace)

        return await self._database.read(work, deadline=deadline, name=name)


def statement_of(
    wanted: ListRequest, *, before: object, limit: int, grace: timedelta
) -> tuple[str, list[object]]:
    """The statement of a list with these filters, and its arguments.

    Each combination of filters has a plan of its own. Without a filter, or by a state of ended sessions, it
    goes along the primary key; by test along `sessions_attempt_once`; live sessions come from the partial
    index on them.
    """
    conditions = ["user_id = $1", "session_id < $2"]
    arguments: list[object] = [wanted.user_id, before, limit]
    if wanted.test_id is not None:
        arguments.append(wanted.test_id)
        conditions.append(f"test_id = ${len(arguments)}")
    if wanted.state is not None:
        arguments += [wanted.state, grace]
        conditions.append(f"${len(arguments) - 1} = {_state_now(f'${len(arguments)}')}")
        if wanted.state in LIVE_STATES:
            conditions.append(LIVE)
    sql = f"""
        SELECT now() AS now, {SESSION_COLUMNS}
          FROM sessions
         WHERE {" AND ".join(conditions)}
         ORDER BY session_id DESC
         LIMIT $3
    """
    return sql, arguments


def _state_now(grace: str) -> str:
    """The state that the clock has given a session, also before that is written; `as_of` in the domain."""
    return f"""
        CASE WHEN {LIVE} AND deadline_at <= now() - {grace}::interval THEN 'expired'
             WHEN state = 'paused' AND pause_until <= now() THEN 'active'
             ELSE state
        END
    """


_LIST_ATTEMPTS = f"""
    SELECT now() AS now, {SESSION_COLUMNS}
      FROM sessions
     WHERE user_id = $1 AND test_id = $2 AND attempt < $3 AND {USES_ATTEMPT}
     ORDER BY attempt DESC
     LIMIT $4
"""
