"""Deliver the events of the outbox, each at least once. An event that fails does not delay the others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis import failpoints
from chassis.backoff import full_jitter
from chassis.errors import Reason, ServiceError
from chassis.postgres import Database
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.rows import as_rows
from chassis.telemetry.logs import get_logger

# Delivers events of one topic. Returns an answer for each event, in the same order: None if it has arrived,
# else the reason. If it raises a ServiceError, that counts for all of them.
Deliver = Callable[[list[OutboxEvent]], Awaitable[Sequence[ServiceError | None]]]

BACKOFF_SECONDS = 0.2
BACKOFF_SECONDS_MAX = 60.0
PAUSE_SECONDS_MAX = 5.0  # between rounds while nothing arrives
ERROR_CHARACTERS_MAX = 500
STATEMENT_SECONDS_MAX = 5.0

# A retry of a client does not help here, but a deployment or a new token does: the event is tried again.
_MAY_HEAL = frozenset(
    {Reason.INTERNAL, Reason.UNAUTHENTICATED, Reason.PERMISSION_DENIED, Reason.METHOD_NOT_ALLOWED}
)

# An earlier event of the user that is under way or waits for another attempt keeps the later ones back.
_FIRST_OF_USER = """
    AND NOT EXISTS (SELECT 1
                      FROM outbox AS earlier
                     WHERE earlier.user_id = outbox.user_id AND earlier.topic = outbox.topic
                       AND earlier.parked_at IS NULL
                       AND (earlier.created_at, earlier.event_id) < (outbox.created_at, outbox.event_id))
"""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Leased:
    event: OutboxEvent
    attempt: int  # the number of leases so far, so it also identifies this lease


@dataclass(frozen=True, slots=True)
class _Failed:
    leased: _Leased
    error: ServiceError
    parked: bool

    def row(self) -> dict[str, object]:
        """The row for `Relay._postpone`."""
        return {
            "user_id": self.leased.event.user_id,
            "event_id": self.leased.event.event_id,
            "attempt": self.leased.attempt,
            "error": _storable(str(self.error))[:ERROR_CHARACTERS_MAX],
            "delay_seconds": _delay_seconds(self),
            "parked": self.parked,
        }


class Relay:
    """Delivers committed events. Any number of replicas may work on one outbox.

    Each topic is a job of its own, so that a receiver that is down delays only its own events. At most
    `batch_size` events of a topic are in delivery at once. An event is parked if its receiver refuses it with
    a reason that is not retryable: the event is kept, logged, counted in `parked`, and not tried again. If a
    process dies between delivery and acknowledgement, the lease of the event ends later, and the event is
    delivered again.

    In a topic of `in_order`, the events of one user follow each other: the next one leaves when the one
    before has arrived or is parked. Their order is that of the database's clock when they were appended.
    """

    def __init__(
        self,
        database: Database,
        topics: Mapping[str, Deliver],
        *,
        in_order: Collection[str] = (),
        batch_size: int = 128,
        delivery_seconds_max: float = 8.0,
        lease_seconds: float = 12.0,
    ) -> None:
        if lease_seconds <= delivery_seconds_max:
            raise ValueError("lease_seconds must be more than delivery_seconds_max")
        self._database = database
        self._topics = topics
        self._in_order = frozenset(in_order)
        self._batch_size = batch_size
        self._delivery_seconds_max = delivery_seconds_max
        self._lease = timedelta(seconds=lease_seconds)
        self._failures_in_a_row = dict.fromkeys(topics, 0)
        self._wakes: list[Callable[[], object]] = []
        self.delivered = 0
        self.failed = 0
        self.parked = 0

    @property
    def topics(self) -> Collection[str]:
        return self._topics.keys()

    def at_wake(self, act: Callable[[], object]) -> None:
        """Call `act` at each `wake`; it makes the job of a topic run now."""
        self._wakes.append(act)

    def wake(self) -> None:
        """Deliver now: call this after a commit that appended events."""
        for act in self._wakes:
            act()

    async def deliver_due(self, topic: str) -> float | None:
        """One round for a topic: deliver what is due, up to `batch_size` events.

        Returns the seconds to wait before the next round: 0 when more events may be due, None when none are.
        Raises the errors of the database.
        """
        found, arrived = await self._round(topic, self._topics[topic])
        if found and not arrived:
            # The receiver is probably down, so it does not get the whole backlog now.
            self._failures_in_a_row[topic] += 1
            return full_jitter(
                self._failures_in_a_row[topic], base_seconds=BACKOFF_SECONDS, seconds_max=PAUSE_SECONDS_MAX
            )
        self._failures_in_a_row[topic] = 0
        # In order, each event that has arrived may have let another one become due.
        more = found == self._batch_size or (found > 0 and topic in self._in_order)
        return 0.0 if more else None

    async def _round(self, topic: str, deliver: Deliver) -> tuple[int, int]:
        """Lease and deliver events. Returns how many were leased, and how many arrived or were parked."""
        leased = await self._lease_due(topic)
        if not leased:
            return 0, 0
        answers = await self._answers([each.event for each in leased], deliver)
        await failpoints.hit_async("relay.after_delivery")
        arrived: list[_Leased] = []
        failed: list[_Failed] = []
        for each, answer in zip(leased, answers, strict=True):
            if answer is None:
                arrived.append(each)
            else:
                failed.append(_Failed(each, answer, parked=_is_final(answer)))
        if arrived:
            await self._delete(arrived)
        if failed:
            await self._postpone(failed)
        return len(leased), len(arrived) + sum(each.parked for each in failed)

    async def _lease_due(self, topic: str) -> list[_Leased]:
        # The update finds the rows by ctid, which cannot change while they are locked. The planner does not
        # know the limit, so for a join on the key it would read the whole table.
        first_of_user = _FIRST_OF_USER if topic in self._in_order else ""
        rows = await self._database.execute_write(
            f"""
            UPDATE outbox
               SET leased_until = now() + $3::interval, attempts = attempts + 1
             WHERE ctid = ANY (ARRAY(SELECT ctid
                                       FROM outbox
                                      WHERE topic = $1 AND parked_at IS NULL AND available_at <= now()
                                        AND (leased_until IS NULL OR leased_until < now())
                                        {first_of_user}
                                      ORDER BY available_at
                                      LIMIT $2
                                        FOR UPDATE SKIP LOCKED))
            RETURNING user_id, event_id, payload, traceparent, attempts
            """,
            topic,
            self._batch_size,
            self._lease,
            deadline=_statement_deadline(),
            name="lease_events",
        )
        return [
            _Leased(
                OutboxEvent(row["user_id"], row["event_id"], topic, row["payload"], row["traceparent"]),
                row["attempts"],
            )
            for row in rows
        ]

    async def _answers(self, events: list[OutboxEvent], deliver: Deliver) -> Sequence[ServiceError | None]:
        answers: list[ServiceError | None] = [ServiceError(Reason.DEADLINE_EXCEEDED)] * len(events)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._delivery_seconds_max):
                try:
                    return await _deliver_all(events, deliver)
                except ServiceError as error:
                    return [error] * len(events)
                except Exception as error:  # noqa: BLE001 — one event may cause it: deliver them one by one
                    log.warning("delivery_failed", topic=events[0].topic, problem=repr(error))
                for index, event in enumerate(events):
                    answers[index] = await _deliver_one(event, deliver)
        return answers

    async def _delete(self, arrived: Sequence[_Leased]) -> None:
        await self._database.execute_write(
            """
            DELETE FROM outbox
             USING json_to_recordset($1) AS arrived (user_id text, event_id uuid)
             WHERE outbox.user_id = arrived.user_id AND outbox.event_id = arrived.event_id
            """,
            as_rows([{"user_id": each.event.user_id, "event_id": each.event.event_id} for each in arrived]),
            deadline=_statement_deadline(),
            name="delete_events",
        )
        self.delivered += len(arrived)

    async def _postpone(self, failed: Sequence[_Failed]) -> None:
        """End each lease, except a lease that has run out and that another replica has taken over."""
        await self._database.execute_write(
            """
            UPDATE outbox
               SET leased_until = NULL,
                   last_error = failed.error,
                   available_at = now() + failed.delay_seconds * interval '1 s',
                   parked_at = CASE WHEN failed.parked THEN now() END
              FROM json_to_recordset($1)
                   AS failed (user_id text, event_id uuid, attempt integer, error text, delay_seconds float8,
                              parked boolean)
             WHERE outbox.user_id = failed.user_id AND outbox.event_id = failed.event_id
               AND outbox.attempts = failed.attempt
            """,
            as_rows([each.row() for each in failed]),
            deadline=_statement_deadline(),
            name="postpone_events",
        )
        for each in failed:
            if each.parked:
                self.parked += 1
                event = each.leased.event
                log.error(
                    "event_parked",
                    topic=event.topic,
                    event_id=str(event.event_id),
                    reason=each.error.reason.name,
                )
            else:
                self.failed += 1


async def _deliver_all(events: list[OutboxEvent], deliver: Deliver) -> Sequence[ServiceError | None]:
    answers = await deliver(events)
    if len(answers) != len(events):
        raise ValueError(f"{len(answers)} answers for {len(events)} events")
    return answers


async def _deliver_one(event: OutboxEvent, deliver: Deliver) -> ServiceError | None:
    try:
        (answer,) = await _deliver_all([event], deliver)
    except ServiceError as error:
        return error
    except Exception as error:  # noqa: BLE001 — only this event fails, and is tried again later
        return ServiceError(Reason.INTERNAL, repr(error))
    return answer


def _storable(text: str) -> str:
    """The text without NUL and halves of surrogate pairs, which PostgreSQL cannot store."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _is_final(error: ServiceError) -> bool:
    return not error.reason.retryable and error.reason not in _MAY_HEAL


def _delay_seconds(failed: _Failed) -> float:
    delay = full_jitter(failed.leased.attempt, base_seconds=BACKOFF_SECONDS, seconds_max=BACKOFF_SECONDS_MAX)
    return max(delay, min(failed.error.retry_after_seconds or 0.0, BACKOFF_SECONDS_MAX))


def _statement_deadline() -> float:
    return time.monotonic() + STATEMENT_SECONDS_MAX
