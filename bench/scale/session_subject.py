"""What session_service does all day, in a store of any size."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, cast

from bench.scale.measuring import BATCH, Call, Measure
from bench.scale.plans import WatchedDatabase
from bench.scale.server import telling
from bench.scale.session_population import SessionPopulation, build, learner, test_id
from chassis.context import Context
from chassis.errors import ServiceError
from chassis.postgres import Connection
from chassis.rpc.client import Upstream
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler
from chassis.telemetry.metrics import Metrics
from protos.session.v1 import attempts_pb2, presence_pb2, sessions_pb2, supervision_pb2
from session_service.__main__ import Parts, assemble
from session_service.domain.holds import HoldName, HoldRequest, HoldState, SubjectTaken
from session_service.domain.identity import IdentityRules
from session_service.domain.timing import Retention, TimeRules
from session_service.progress_client import ProgressClient
from session_service.subscription_client import SubscriptionClient

SESSIONS = "/homeroom.session.v1.SessionService"
SUPERVISION = "/homeroom.session.v1.SupervisionService"
NOWHERE = cast("Upstream", None)
TIMED_TESTS = 5
"""How many tests the rounds start. Results and attempts are read of another one, so they stay as they are."""
READ_TEST = TIMED_TESTS
ANSWERS = 3
SWEEPS = 50
TIMES = TimeRules(
    grace=timedelta(seconds=3),
    pause_budget=timedelta(minutes=30),
    idle_allowed=timedelta(hours=24),
    heartbeat_interval=timedelta(seconds=15),
    lease=timedelta(minutes=5),
    left_lease=timedelta(minutes=1),
)
RETENTION = Retention(answers=timedelta(days=1826), timeline=timedelta(days=400))


class Began(NamedTuple):
    """A session under way."""

    user_id: str
    session_id: str


class AmplePlan(SubscriptionClient):
    """Stands for subscription_service: every learner has units left, at no cost. Nothing is delivered."""

    def __init__(self) -> None:
        super().__init__(upstream=NOWHERE)

    async def place_holds(
        self, wanted: Sequence[tuple[HoldRequest, Context]]
    ) -> list[HoldState | SubjectTaken | ServiceError]:
        return [HoldState.OPEN for _ in wanted]

    async def give_back(self, holds: Sequence[HoldName]) -> None:
        """Nothing was taken."""


@dataclass
class SessionSubject:
    """Sessions of three answers; each learner starts, answers, reads and completes."""

    answers_per_session: int = 3
    service: str = "session"
    sizes: Sequence[int] = (10_000, 100_000, 1_000_000, 10_000_000)
    tables: Sequence[str] = ("sessions", "answers", "session_events", "idempotency_keys", "outbox")
    parts: Parts | None = field(default=None, init=False)
    rounds: int = field(default=0, init=False)

    async def build(self, connection: Connection, size: int, told: Callable[[str], object]) -> int:
        population = SessionPopulation(size, self.answers_per_session)
        await build(connection, population, told=telling(told, "sessions", population.total))
        return population.learners

    def assemble(self, database: WatchedDatabase, secret: str) -> Sequence[Handler]:
        self.parts = assemble(
            database=database,
            subscription=AmplePlan(),
            progress=ProgressClient(upstream=NOWHERE),
            metrics=Metrics(service="session_service"),
            tokens=PageTokens(secret=secret),
            hold_age_seconds=30.0,
            secret=secret,
            times=TIMES,
            retention=RETENTION,
            identity_rules=IdentityRules(),
        )
        return self.parts.handlers

    async def round(self, measure: Measure, learners: Sequence[int], batches: int) -> AsyncIterator[None]:
        """Learners begin one test after the other; no learner is in a batch twice."""
        if self.parts is None:
            raise RuntimeError("assemble the service first")
        starts = list(itertools.islice(_starts(learners, first_test=self.rounds), batches))
        self.rounds += 1
        answered = await measure.calls("start", f"{SESSIONS}/CreateSession", starts)
        yield
        began = [
            [Began(call.user_id, started.session.session_id) for call, started in zip(*batch, strict=True)]
            for batch in zip(starts, answered, strict=True)
        ]
        began = list(_dealt(began, groups=len(learners) // BATCH))
        for step, path, make in _STEPS:
            await measure.calls(step, path, [[make(session) for session in batch] for batch in began])
            yield
        results = [supervision_pb2.ListTestResultsRequest(test_id=test_id(READ_TEST))] * batches
        await measure.calls(
            "results of a test",
            f"{SUPERVISION}/ListTestResults",
            [[Call("admin", request)] for request in results],
        )
        yield
        sweep = self.parts.sweep
        for step, run in (
            ("sweep of deadlines", sweep.close_overdue),
            ("sweep of leases", sweep.close_unused),
            ("sweep of idle ones", sweep.close_idle),
        ):
            await measure.work(step, _repeated(run), items=SWEEPS)
            yield


def _starts(learners: Sequence[int], *, first_test: int) -> Iterator[list[Call]]:
    """Batches of starts; each round begins with another test."""
    for place in range(TIMED_TESTS):
        for first in range(0, len(learners) - BATCH + 1, BATCH):
            yield [
                Call(
                    learner(number),
                    sessions_pb2.CreateSessionRequest(test_id=test_id((first_test + place) % TIMED_TESTS)),
                    str(uuid.uuid4()),
                )
                for number in learners[first : first + BATCH]
            ]


def _dealt(began: Sequence[Sequence[Began]], *, groups: int) -> Iterator[list[Began]]:
    """The sessions in other batches, because learners who start together answer at their own pace.

    Those that start in a batch lie in one or two pages, which have no room for a new version of each at once.
    Each learner is once in so many batches that follow each other (`groups`), and so no learner is in a batch
    twice.
    """
    for first in range(0, len(began), groups):
        batches = began[first : first + groups]
        sessions = [session for batch in batches for session in batch]
        for place in range(len(batches)):
            yield sessions[place :: len(batches)]


def _answering(number: int) -> Callable[[Began], Call]:
    def answer(session: Began) -> Call:
        request = sessions_pb2.AnswerQuestionRequest(
            session_id=session.session_id, question_id=f"q-{number:03d}", choice="a"
        )
        return Call(session.user_id, request, str(uuid.uuid4()))

    return answer


def _beat(session: Began) -> Call:
    request = presence_pb2.RecordHeartbeatRequest(session_id=session.session_id, seq=1, visible=True)
    return Call(session.user_id, request)


def _read(session: Began) -> Call:
    return Call(session.user_id, sessions_pb2.GetSessionRequest(session_id=session.session_id))


def _list(session: Began) -> Call:
    return Call(session.user_id, sessions_pb2.ListSessionsRequest(page_size=10))


def _list_live(session: Began) -> Call:
    request = sessions_pb2.ListSessionsRequest(state=sessions_pb2.Session.ACTIVE, page_size=10)
    return Call(session.user_id, request)


def _list_attempts(session: Began) -> Call:
    return Call(session.user_id, attempts_pb2.ListAttemptsRequest(test_id=test_id(READ_TEST), page_size=10))


def _complete(session: Began) -> Call:
    request = sessions_pb2.CompleteSessionRequest(session_id=session.session_id)
    return Call(session.user_id, request, str(uuid.uuid4()))


def _read_timeline(session: Began) -> Call:
    return Call(session.user_id, supervision_pb2.GetTimelineRequest(session_id=session.session_id))


# In this order, each for all sessions that began.
_STEPS = (
    *(
        (f"answer {number}", f"{SESSIONS}/AnswerQuestion", _answering(number))
        for number in range(1, ANSWERS + 1)
    ),
    ("heartbeat", "/homeroom.session.v1.PresenceService/RecordHeartbeat", _beat),
    ("read a session", f"{SESSIONS}/GetSession", _read),
    ("list sessions", f"{SESSIONS}/ListSessions", _list),
    ("list live sessions", f"{SESSIONS}/ListSessions", _list_live),
    ("list attempts", "/homeroom.session.v1.AttemptService/ListAttempts", _list_attempts),
    ("complete", f"{SESSIONS}/CompleteSession", _complete),
    ("read a timeline", f"{SUPERVISION}/GetTimeline", _read_timeline),
)


def _repeated(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    async def runs() -> None:
        for _ in range(SWEEPS):
            await run()

    return runs
