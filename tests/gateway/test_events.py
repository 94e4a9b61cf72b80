"""`GET /v1/events`: what a learner's tabs are told, from services that change under the test's hands."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from chassis.batch import Item, Outcome, Reply
from chassis.errors import Reason, ServiceError
from chassis.ids import uuid7
from gateway.changes.positions import SESSIONS_MAX, Position, PositionTokens
from gateway.streaming.streams import StreamLimits
from protos.progress.v1 import changes_pb2 as progress_pb2
from protos.session.v1 import changes_pb2 as session_pb2
from protos.session.v1 import sessions_pb2
from protos.subscription.v1 import accounts_pb2
from protos.subscription.v1 import changes_pb2 as subscription_pb2
from tests.gateway.backend import SERVICE_TOKEN, Backend
from tests.gateway.crowds import assert_polite_are_served, counted, head
from tests.gateway.running import Gateway, running_gateway
from tests.gateway.tokens import IdentityProvider
from tests.support.event_streams import EventReader, Told
from tests.support.waiting import eventually

State = sessions_pb2.Session
EVENTS = "/v1/events"
LIVE = {State.ACTIVE, State.PAUSED}
NOW_SECONDS = 1_800_000_000


class Services:
    """The state of all learners, as the three services would tell it."""

    def __init__(self, backend: Backend) -> None:
        self.sessions: dict[str, dict[bytes, tuple[int, Any]]] = {}
        self.progress: dict[str, int] = {}
        self.fingerprints: dict[str, bytes] = {}
        self.poisoned: set[str] = set()
        self.away: set[str] = set()
        self.clock = NOW_SECONDS
        self.asked: list[int] = []
        backend.answers["ReadSessionChanges"] = self._answer_sessions
        backend.answers["ReadProgressChanges"] = self._answer_progress
        backend.answers["ReadEntitlementChanges"] = self._answer_entitlements

    def put(self, user: str, session: uuid.UUID, version: int, state: Any = State.ACTIVE) -> None:
        self.sessions.setdefault(user, {})[session.bytes] = (version, state)

    def _answer_sessions(self, item: Item[Any]) -> Outcome:
        self.asked.append(len(item.request.learners))
        if "session" in self.away:
            return ServiceError(Reason.UNAVAILABLE)
        self.clock += 1
        answer = session_pb2.ReadSessionChangesResponse()
        for learner in item.request.learners:
            changes = answer.learners.add(failed=learner.user_id in self.poisoned)
            changes.as_of.seconds = self.clock
            known = {each.session_id: each.version for each in learner.known}
            newer = {
                session_id: (version, state)
                for session_id, (version, state) in self.sessions.get(learner.user_id, {}).items()
                if (state in LIVE or session_id in known) and version > known.get(session_id, 0)
            }
            for session_id in sorted(newer)[-SESSIONS_MAX:]:
                version, state = newer[session_id]
                changes.sessions.add(session_id=session_id, test_id="t", state=state, version=version)
        return Reply(answer)

    def _answer_progress(self, item: Item[Any]) -> Outcome:
        if "progress" in self.away:
            return ServiceError(Reason.UNAVAILABLE)
        return Reply(
            progress_pb2.ReadProgressChangesResponse(
                learners=[
                    progress_pb2.ProgressChange(
                        failed=user in self.poisoned, version=self.progress.get(user, 0)
                    )
                    for user in item.request.user_ids
                ]
            )
        )

    def _answer_entitlements(self, item: Item[Any]) -> Outcome:
        if "subscription" in self.away:
            return ServiceError(Reason.UNAVAILABLE)
        if self.poisoned.intersection(item.request.user_ids):
            raise RuntimeError("a bug that one learner causes")
        return Reply(
            subscription_pb2.ReadEntitlementChangesResponse(
                learners=[
                    subscription_pb2.EntitlementChange(
                        fingerprint=self.fingerprints.get(user, b"12345678"),
                        plan_id="free",
                        status=accounts_pb2.Subscription.ACTIVE,
                    )
                    for user in item.request.user_ids
                ]
            )
        )


@pytest.fixture
def services(backend: Backend) -> Services:
    return Services(backend)


async def read(stream: EventReader, count: int) -> list[Told]:
    events = []
    for _ in range(count):
        event = await stream.next()
        assert event is not None, "the stream ended"
        events.append(event)
    return events


def of(name: str, events: list[Told]) -> list[Any]:
    return [event.data for event in events if event.name == name]


async def quiet(stream: EventReader, services: Services) -> None:
    """Fails if the stream has anything to tell while the hub asks ten times."""
    reading = asyncio.create_task(stream.next())
    services.asked.clear()
    await eventually(lambda: reading.done() or len(services.asked) >= 10)
    assert not reading.done(), reading.result()
    reading.cancel()
    await asyncio.wait({reading})


@asynccontextmanager
async def listening(gateway: Gateway, users: Sequence[str]) -> AsyncIterator[list[EventReader]]:
    """A stream for each of these learners."""
    async with AsyncExitStack() as stack:
        streams = [gateway.stream(EVENTS, token=gateway.identity.token(user)) for user in users]
        yield list(await asyncio.gather(*map(stack.enter_async_context, streams)))


async def test_a_new_client_is_told_the_present_state_then_each_change(
    gateway: Gateway, services: Services
) -> None:
    session = uuid.uuid4()
    services.put("ada", session, 3)
    services.progress["ada"] = 7
    async with gateway.stream(EVENTS) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-store"
        events = await read(stream, 3)
        assert of("session", events) == [
            {"sessionId": str(session), "testId": "t", "state": "ACTIVE", "version": 3}
        ]
        assert of("progress", events) == [{"version": 7}]
        assert of("entitlement", events) == [
            {"planId": "free", "status": "ACTIVE", "fingerprint": b"12345678".hex()}
        ]
        services.progress["ada"] = 8
        assert of("progress", await read(stream, 1)) == [{"version": 8}]
        services.put("ada", session, 5, State.COMPLETED)
        (ended,) = of("session", await read(stream, 1))
        assert (ended["state"], ended["version"]) == ("COMPLETED", 5)
        services.fingerprints["ada"] = b""
        assert of("entitlement", await read(stream, 1)) == [{"fingerprint": ""}]


async def test_a_client_that_returns_is_told_what_differs_and_nothing_else(
    gateway: Gateway, services: Services
) -> None:
    kept, ended = uuid.uuid4(), uuid.uuid4()
    services.put("ada", kept, 1)
    services.put("ada", ended, 1)
    async with gateway.stream(EVENTS) as stream:
        await read(stream, 4)
    services.put("ada", ended, 4, State.ABANDONED)
    headers = {"Last-Event-ID": stream.last_id}
    async with gateway.stream(EVENTS, headers=headers) as stream:
        (only,) = of("session", await read(stream, 1))
        assert (only["sessionId"], only["state"]) == (str(ended), "ABANDONED")
        last = stream.last_id
    async with gateway.stream(f"{EVENTS}?lastEventId={last}") as stream:
        await quiet(stream, services)


async def test_a_returning_client_is_told_an_end_that_the_other_tab_knows(
    gateway: Gateway, services: Services
) -> None:
    session = uuid.uuid4()
    services.put("ada", session, 1)
    async with gateway.stream(EVENTS) as other:
        await read(other, 3)
        async with gateway.stream(EVENTS) as first:
            await read(first, 3)
        services.put("ada", session, 2, State.COMPLETED)
        await read(other, 1)
        async with gateway.stream(EVENTS, headers={"Last-Event-ID": first.last_id}) as second:
            (only,) = of("session", await read(second, 1))
            assert only["version"] == 2
            await quiet(second, services)


@pytest.mark.parametrize("last", ["forged", "AAAA" * 30, "%00", "Ä", "x" * 1999])
async def test_a_last_event_id_of_nobody_begins_with_the_present_state(
    gateway: Gateway, services: Services, last: str
) -> None:
    services.progress["ada"] = 7
    async with gateway.stream(EVENTS, headers={"Last-Event-ID": last}) as stream:
        assert stream.status == 200
        assert of("progress", await read(stream, 2)) == [{"version": 7}]


async def test_a_last_event_id_that_is_too_long_is_refused(gateway: Gateway, services: Services) -> None:
    del services
    answer = await gateway.request("GET", EVENTS, headers={"Last-Event-ID": "x" * 2001})
    assert answer.reason == "INVALID_ARGUMENT"


async def test_the_id_of_another_learner_tells_nothing_of_them(gateway: Gateway, services: Services) -> None:
    theirs, hers = uuid.uuid4(), uuid.uuid4()
    services.put("ada", hers, 3)
    services.put("eve", theirs, 3)
    services.progress |= {"ada": 3, "eve": 4}
    async with gateway.stream(EVENTS) as stream:
        await read(stream, 3)
    eve = gateway.identity.token("eve")
    async with gateway.stream(EVENTS, token=eve, headers={"Last-Event-ID": stream.last_id}) as stream:
        events = await read(stream, 3)
        assert [each["sessionId"] for each in of("session", events)] == [str(theirs)]
        assert of("progress", events) == [{"version": 4}]


async def test_a_learner_only_hears_of_their_own_changes(gateway: Gateway, services: Services) -> None:
    users = [f"learner-{number}" for number in range(20)]
    for user in users:
        services.progress[user] = 1
    async with listening(gateway, users) as readers:
        for reader in readers:
            await read(reader, 2)
        for number, user in enumerate(users):
            services.progress[user] = 100 + number
        told = [of("progress", await read(reader, 1)) for reader in readers]
    assert told == [[{"version": 100 + number}] for number in range(20)]
    await eventually(lambda: counted_is(gateway, "event_learners", 0))


async def counted_is(gateway: Gateway, metric: str, expected: float) -> bool:
    return await counted(gateway, metric) == expected


async def test_changes_are_coalesced_and_never_told_backwards(gateway: Gateway, services: Services) -> None:
    session = uuid.uuid4()
    services.put("ada", session, 1)
    async with gateway.stream(EVENTS) as stream:
        events = await read(stream, 3)
        versions = [each["version"] for each in of("session", events)]
        for version in range(2, 200):
            services.put("ada", session, version)
            services.progress["ada"] = version
            await asyncio.sleep(0)
        while versions[-1] < 199:
            versions += [each["version"] for each in of("session", await read(stream, 1))]
    assert versions == sorted(set(versions))
    assert len(versions) < 150


async def test_of_very_many_sessions_the_newest_are_told_and_each_once(
    gateway: Gateway, services: Services
) -> None:
    sessions = [uuid7() for _ in range(2 * SESSIONS_MAX)]
    for session in sessions:
        services.put("ada", session, 1)
    async with gateway.stream(EVENTS) as stream:
        told = of("session", await read(stream, SESSIONS_MAX + 2))
        assert [each["sessionId"] for each in told] == list(map(str, sessions[-SESSIONS_MAX:]))
        await quiet(stream, services)
        services.put("ada", sessions[-1], 2, State.COMPLETED)
        newest = uuid7()
        services.put("ada", newest, 1)
        told = of("session", await read(stream, 2))
        assert {each["sessionId"] for each in told} == {str(sessions[-1]), str(newest)}
        await quiet(stream, services)
    async with gateway.stream(EVENTS, headers={"Last-Event-ID": stream.last_id}) as stream:
        await quiet(stream, services)


async def test_a_service_that_is_away_delays_only_its_own_events(
    gateway: Gateway, services: Services
) -> None:
    services.away = {"session"}
    session = uuid.uuid4()
    services.put("ada", session, 1)
    async with gateway.stream(EVENTS) as stream:
        assert {event.name for event in await read(stream, 2)} == {"progress", "entitlement"}
        services.progress["ada"] = 2
        assert of("progress", await read(stream, 1)) == [{"version": 2}]
        services.away = {"progress", "subscription"}
        assert len(of("session", await read(stream, 1))) == 1


async def test_a_stream_opens_while_all_services_are_away(gateway: Gateway, services: Services) -> None:
    services.away = {"session", "progress", "subscription"}
    async with gateway.stream(EVENTS) as stream:
        assert stream.status == 200
        await quiet(stream, services)


async def test_a_learner_who_cannot_be_read_costs_only_themselves(
    gateway: Gateway, services: Services
) -> None:
    services.poisoned = {"eve"}
    users = [f"polite-{number}" for number in range(15)]
    async with gateway.stream(EVENTS, token=gateway.identity.token("eve")) as poisoned:
        for user in users:
            async with gateway.stream(EVENTS, token=gateway.identity.token(user)) as stream:
                assert {event.name for event in await read(stream, 2)} == {"progress", "entitlement"}
                if user == users[-1]:
                    await quiet(poisoned, services)
    assert await counted(gateway, "event_reads_total", outcome="failed", upstream="session") < 10


async def test_many_learners_share_few_messages(gateway: Gateway, services: Services) -> None:
    async with listening(gateway, [f"many-{number}" for number in range(60)]) as readers:
        await asyncio.gather(*(read(reader, 2) for reader in readers))
        services.asked.clear()
        await eventually(lambda: len(services.asked) >= 5)
        assert sum(services.asked) / len(services.asked) > 5
        assert max(services.asked) <= 256


async def test_a_flood_of_one_learner_takes_eight_streams_and_nobody_elses(
    gateway: Gateway, services: Services
) -> None:
    del services

    async def flood() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writers.append(writer)
        writer.write(head(gateway, "flood", method="GET", path=EVENTS))
        return int((await reader.readline()).split(b" ")[1])

    writers: list[asyncio.StreamWriter] = []
    statuses = await asyncio.gather(*(flood() for _ in range(100)))
    assert sorted(statuses) == [200] * 8 + [429] * 92
    async with gateway.stream(EVENTS, token=gateway.identity.token("polite")) as stream:
        assert stream.status == 200
        await read(stream, 2)
    for writer in writers:
        writer.transport.abort()
    await eventually(lambda: counted_is(gateway, "streams_open", 0))


async def test_polite_learners_are_told_beside_one_that_never_reads(
    gateway: Gateway, backend: Backend, services: Services
) -> None:
    writers = []
    for _ in range(8):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        writer.write(head(gateway, "rude", method="GET", path=EVENTS))
        writers.append(writer)
    users = [f"polite-{number}" for number in range(60)]

    async def until_last(reader: EventReader) -> None:
        while of("progress", await read(reader, 1)) != [{"version": 29}]:
            pass

    async with listening(gateway, users) as readers:
        await asyncio.gather(*(read(reader, 2) for reader in readers))
        for version in range(1, 30):
            for user in ("rude", *users):
                services.progress[user] = version
            await asyncio.sleep(0)
        await asyncio.gather(*map(until_last, readers))
        backend.answers.clear()
        await assert_polite_are_served(gateway, backend)
    for writer in writers:
        writer.transport.abort()


async def test_only_learners_listen(gateway: Gateway, services: Services) -> None:
    del services
    assert (await gateway.request("GET", EVENTS, token=None)).status == 401
    admin = gateway.identity.token("root", roles=("admin",))
    assert (await gateway.request("GET", EVENTS, token=admin)).reason == "PERMISSION_DENIED"
    assert (await gateway.request("POST", EVENTS)).status == 405
    assert (await gateway.request("GET", f"{EVENTS}?userId=eve")).reason == "INVALID_ARGUMENT"


async def test_streams_do_not_count_as_requests_in_flight(
    backend: Backend, identity: IdentityProvider
) -> None:
    Services(backend)
    async with (
        running_gateway(
            upstream_port=backend.port, identity=identity, stream_limits=StreamLimits(streams_max=3)
        ) as gateway,
        listening(gateway, ["one", "two", "three"]) as streams,
    ):
        assert [stream.status for stream in streams] == [200] * 3
        assert gateway.parts.admission.in_flight == 0
        full = await gateway.request("GET", EVENTS, token=identity.token("fourth"))
        assert full.reason == "OVERLOADED"
        assert (await gateway.request("GET", "/v1/stats")).status == 200


def test_a_token_says_what_it_was_written_for() -> None:
    tokens = PositionTokens(secret=SERVICE_TOKEN)
    sessions = {uuid.uuid4().bytes: number for number in range(1, SESSIONS_MAX + 1)}
    for position in (
        Position(),
        Position(1_800_000_000_000, sessions, 5, b"12345678", left_out=uuid.uuid4().bytes),
        Position(1, {}, 0, b""),
        Position(None, {}, None, b"12345678"),
    ):
        token = tokens.write("ada", position)
        assert len(token) <= 2000
        assert tokens.read("ada", token) == position
        assert tokens.read("eve", token) == Position()
        assert tokens.read("ada", token[:-2]) == Position()
        assert PositionTokens(secret="another").read("ada", token) == Position()
