"""Starting a session in one transaction: lock the account, read, decide, write."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from dataclasses import dataclass

from sqlalchemy import Integer, and_, bindparam, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from bench.peers.fastapi_sqlalchemy.models import Account, DailyUsage, IdempotencyKey, Plan, Test, TestSession
from bench.peers.fastapi_sqlalchemy.schemas import SessionView, StartRequest

# Built once: SQLAlchemy then only looks up what it has compiled, instead of building it each time.
ACCOUNT = (
    select(Account.active, Plan.daily_test_limit, func.now().label("now"))
    .join(Plan, Plan.plan_id == Account.plan_id)
    .where(Account.user_id == bindparam("user_id"))
    .with_for_update(of=Account, key_share=True)
)
# Written out, not bound: with parameters PostgreSQL could not use the partial index of live sessions.
IS_LIVE = TestSession.state.in_([literal_column("'ACTIVE'"), literal_column("'PAUSED'")])
STATE = (
    select(IdempotencyKey, Test, TestSession)
    .select_from(Account)
    .outerjoin(
        IdempotencyKey,
        and_(IdempotencyKey.user_id == Account.user_id, IdempotencyKey.key == bindparam("key")),
    )
    .outerjoin(Test, Test.test_id == bindparam("test_id"))
    .outerjoin(
        TestSession,
        and_(TestSession.user_id == Account.user_id, TestSession.test_id == bindparam("test_id"), IS_LIVE),
    )
    .where(Account.user_id == bindparam("user_id"))
)
FIRST_OF_TODAY = insert(DailyUsage.__table__).values(
    user_id=bindparam("user_id"), day=func.date(func.timezone("utc", func.now())), used=1
)
COUNT = FIRST_OF_TODAY.on_conflict_do_update(
    index_elements=[DailyUsage.user_id, DailyUsage.day],
    set_={"used": DailyUsage.used + 1},
    where=DailyUsage.used < bindparam("daily_limit", type_=Integer),
).returning(DailyUsage.used)
UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Started:
    status: int
    body: str
    replayed: bool = False


class StartRefusedError(Exception):
    """The learner may not start; says the HTTP status and a machine's reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


async def start_session(
    db: AsyncSession, user_id: str, key: str, request: StartRequest, raw: bytes
) -> Started:
    """Starts, resumes or replays in the caller's transaction; raises StartRefusedError when it may not."""
    account = (await db.execute(ACCOUNT, {"user_id": user_id})).one_or_none()
    if account is None or not account.active:
        raise StartRefusedError(400, "INVALID_USER_REFERENCE")

    # A second statement, because the first one's snapshot is older than its lock.
    names = {"user_id": user_id, "key": key, "test_id": request.test_id}
    stored, test, live = (await db.execute(STATE, names)).one()
    fingerprint = hashlib.sha256(raw).digest()
    if stored is not None:
        if stored.fingerprint != fingerprint:
            raise StartRefusedError(422, "IDEMPOTENCY_KEY_REUSED")
        return Started(stored.status, stored.response, replayed=True)
    if test is None:
        raise StartRefusedError(404, "NOT_FOUND")

    status = 200
    if live is None:
        status = 201
        await _count(db, user_id, account.daily_test_limit)
        live = _new_session(user_id, request, test, account.now)
        db.add(live)
    body = _view(live, resumed=status == 200)
    db.add(IdempotencyKey(user_id=user_id, key=key, fingerprint=fingerprint, status=status, response=body))
    return Started(status, body)


async def _count(db: AsyncSession, user_id: str, daily_limit: int | None) -> None:
    limit = UNLIMITED if daily_limit is None else daily_limit
    counted = limit > 0 and await db.scalar(COUNT, {"user_id": user_id, "daily_limit": limit})
    if not counted:
        raise StartRefusedError(429, "DAILY_LIMIT_REACHED")


def _new_session(user_id: str, request: StartRequest, test: Test, now: dt.datetime) -> TestSession:
    return TestSession(
        user_id=user_id,
        session_id=uuid.uuid4(),
        test_id=test.test_id,
        title=request.title or test.title,
        kind=test.kind,
        difficulty=test.difficulty if request.difficulty is None else request.difficulty,
        state="ACTIVE",
        started_at=now,
        details=request.metadata,
        version=1,
    )


def _view(session: TestSession, *, resumed: bool) -> str:
    view = SessionView(
        session_id=session.session_id,
        user_id=session.user_id,
        test_id=session.test_id,
        title=session.title,
        kind=session.kind,
        difficulty=session.difficulty,
        state=session.state,
        resumed=resumed,
        started_at=session.started_at,
        metadata=session.details,
        version=session.version,
    )
    return view.model_dump_json(by_alias=True)
