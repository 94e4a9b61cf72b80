"""Asks each service about the learners who listen, and wakes the streams of those who have changed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import Message

from chassis.batch import Reply
from chassis.context import Context, service_context
from chassis.errors import Reason, ServiceError
from chassis.process.background import Background
from chassis.telemetry.logs import get_logger
from chassis.telemetry.metrics import Metrics
from gateway.changes.listeners import Learner, Listener
from gateway.changes.positions import PositionTokens
from gateway.changes.sources import READERS, Question, Reader
from protos.gateway.v1 import events_pb2 as pb

# As many as the contract lets one message have.
QUESTIONS_MAX = 256
READ_SECONDS_MAX = 2.0
# How often a learner's changes are asked for; with jitter, so that the questions spread over the second.
INTERVAL_SECONDS = 1.0
JITTER = 0.2
# How often the hub looks for learners who are due. Whoever comes wakes it.
ROUND_SECONDS = 0.1
IDLE_ROUND_SECONDS = 5.0
# Clients that come within this time are asked for together.
GATHER_SECONDS = 0.02
# A learner who alone cannot be read is asked for ever more rarely, up to this.
INTERVAL_SECONDS_MAX = 30.0

# These refusals are about the service or the time, and not about one of the learners.
_ABOUT_ALL = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.OVERLOADED})

log = get_logger(__name__)


class Service(Protocol):
    """The part of an upstream that the hub needs."""

    async def call(self, path: str, request: Message, context: Context) -> Reply[Any]: ...


class EventHub:
    """The learners who listen at this gateway.

    Each service has a job of its own, so that one that is slow or away delays nobody's other events. All
    learners of a moment share one message, in parts of 256.

    Args:
        upstreams: the client of each service, by the short name of the proto package.
        secret: what the gateways of one deployment share, for the ids of events.
    """

    def __init__(
        self,
        *,
        upstreams: Mapping[str, Service],
        secret: str,
        metrics: Metrics,
        background: Background,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._upstreams = upstreams
        self._tokens = PositionTokens(secret=secret)
        self._interval_seconds = interval_seconds
        self._learners: dict[str, Learner] = {}
        self._away: set[Reader] = set()
        self._waking: asyncio.TimerHandle | None = None
        self._reads = metrics.counter(
            "event_reads",
            "Learners whose changes were asked for, by upstream and outcome.",
            ("upstream", "outcome"),
        )
        metrics.gauge(
            "event_learners", "Learners who listen to their changes.", lambda: float(len(self._learners))
        )
        self._jobs = [
            background.add(
                f"read_{reader.upstream}_changes",
                partial(self.round, reader),
                interval_seconds=IDLE_ROUND_SECONDS,
            )
            for reader in READERS
        ]

    async def stream(
        self, path: str, request: Message, context: Context, *, seconds_max: float | None = None
    ) -> AsyncGenerator[Any]:
        """What has changed for the caller: like `Upstream.stream`, but of this process.

        The first message tells nothing, so that the stream opens whatever the services do.
        """
        del path, seconds_max
        assert isinstance(request, pb.WatchEventsRequest)  # noqa: S101 - the only method of this process
        listener = self._enter(context.user_id, request.last_event_id)
        try:
            yield pb.WatchEventsResponse()
            while True:
                await listener.changed.wait()
                listener.changed.clear()
                for message in listener.pending():
                    yield message
        finally:
            self._leave(listener)

    def _enter(self, user_id: str, last_event_id: str) -> Listener:
        learner = self._learners.get(user_id)
        if learner is None:
            learner = self._learners[user_id] = Learner(user_id)
        listener = Listener(learner, self._tokens.read(user_id, last_event_id), self._tokens)
        learner.listeners.add(listener)
        now = asyncio.get_running_loop().time()
        for source, due_at in enumerate(learner.due_at):
            if not learner.failures[
                source
            ]:  # whoever cannot be read is not asked for more often by coming again
                learner.due_at[source] = min(due_at, now)
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._wake)
        return listener

    def _wake(self) -> None:
        self._waking = None
        for job in self._jobs:
            job.wake()
        self._set_interval()

    def _leave(self, listener: Listener) -> None:
        learner = listener.learner
        learner.listeners.discard(listener)
        if not learner.listeners and self._learners.get(learner.user_id) is learner:
            del self._learners[learner.user_id]
            self._set_interval()

    def _set_interval(self) -> None:
        for job in self._jobs:
            job.interval_seconds = ROUND_SECONDS if self._learners else IDLE_ROUND_SECONDS

    async def round(self, reader: Reader) -> None:
        """One round of background work: asks a service about the learners who are due."""
        now = asyncio.get_running_loop().time()
        questions: list[Question] = []
        for learner in self._learners.values():
            if learner.due_at[reader.source] <= now:
                # Whoever comes while the answer is under way sets it to now again.
                learner.due_at[reader.source] = now + self._interval_seconds * random.uniform(1 - JITTER, 1)  # noqa: S311 - jitter
                questions += reader.questions(learner)
        if questions:
            parts = [questions[at : at + QUESTIONS_MAX] for at in range(0, len(questions), QUESTIONS_MAX)]
            await asyncio.gather(*(self._ask(reader, part) for part in parts))

    async def _ask(self, reader: Reader, questions: Sequence[Question]) -> None:
        try:
            reply = await self._upstreams[reader.upstream].call(
                reader.path,
                reader.request(questions),
                service_context(reader.path, timeout_seconds=READ_SECONDS_MAX),
            )
            message: Any = reply.message
            answers = message.learners
            if len(answers) != len(questions):
                raise ServiceError(Reason.INTERNAL, f"{len(answers)} answers for {len(questions)} learners")  # noqa: TRY301 - the handler below bisects
        except ServiceError as error:
            await self._refused(reader, questions, error)
            return
        if reader in self._away:
            self._away.remove(reader)
            log.info("changes_read_again", upstream=reader.upstream)
        for question, answer in zip(questions, answers, strict=True):
            if answer.failed:
                self._postpone(reader, question)
            else:
                self._learn(reader, question, answer)

    async def _refused(self, reader: Reader, questions: Sequence[Question], error: ServiceError) -> None:
        if error.reason in _ABOUT_ALL:
            self._reads.add(reader.upstream, error.reason.name, amount=len(questions))
            if reader not in self._away:
                self._away.add(reader)
                log.warning("changes_not_read", upstream=reader.upstream, reason=error.reason.name)
        elif len(questions) == 1:
            log.warning("changes_refused", upstream=reader.upstream, reason=error.reason.name)
            self._postpone(reader, questions[0])
        else:
            middle = len(questions) // 2
            await self._ask(reader, questions[:middle])
            await self._ask(reader, questions[middle:])

    def _learn(self, reader: Reader, question: Question, answer: Any) -> None:
        self._reads.add(reader.upstream, "OK")
        learner = question.learner
        learner.failures[reader.source] = 0
        if reader.learn(question, answer):
            for listener in learner.listeners:
                listener.changed.set()
        for listener in question.waiting:
            listener.admit(reader.source)

    def _postpone(self, reader: Reader, question: Question) -> None:
        self._reads.add(reader.upstream, "failed")
        learner = question.learner
        learner.failures[reader.source] += 1
        pause_seconds = min(
            INTERVAL_SECONDS_MAX, self._interval_seconds * 2 ** min(learner.failures[reader.source], 16)
        )
        learner.due_at[reader.source] = asyncio.get_running_loop().time() + pause_seconds
