"""What keeps an event from arriving is found, and an operator lets it go on, or discards it."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from chassis.diagnostics.outbox import outbox_checks, outbox_repairs
from chassis.diagnostics.plans import RowOutcome
from chassis.postgres import Connection, Database
from chassis.postgres.outbox import OutboxEvent
from chassis.postgres.relay import Relay
from tests.diagnostics.operators import Operator

PARKED, OLD, LEASE = "purse.outbox_parked", "purse.outbox_old", "purse.outbox_lease"
TOPIC = "school.Told"

PLANTINGS = {
    PARKED: "parked_at = now(), attempts = 3, last_error = 'no such account ann@example.org'",
    OLD: "created_at = now() - interval '1 hour', attempts = 90",
    LEASE: "leased_until = now() + interval '1 day', attempts = 1",
}


@pytest.fixture
def operator(database: Database) -> Operator:
    return Operator(database, checks=outbox_checks(database, "purse"), repairs=outbox_repairs("purse"))


@pytest.fixture
async def relay(database: Database, arrived: list[OutboxEvent]) -> Relay:
    async def deliver(events: list[OutboxEvent]) -> list[None]:
        arrived.extend(events)
        return [None] * len(events)

    return Relay(database, {TOPIC: deliver})


@pytest.fixture
def arrived() -> list[OutboxEvent]:
    return []


async def add_event(admin: Connection, user_id: str, change: str = "") -> UUID:
    """An event that is due, with this change of its row."""
    event_id = uuid4()
    await admin.execute(
        "INSERT INTO outbox (user_id, event_id, topic, payload) VALUES ($1, $2, $3, 'told')",
        user_id,
        event_id,
        TOPIC,
    )
    if change:
        statement = f"UPDATE outbox SET {change} WHERE event_id = $1"  # noqa: S608 - written in this file
        await admin.execute(statement, event_id)
    return event_id


def test_each_check_has_a_planting(database: Database) -> None:
    assert {check.check_id for check in outbox_checks(database, "purse")} == PLANTINGS.keys()


async def test_events_on_their_way_are_no_findings(operator: Operator, admin: Connection) -> None:
    await add_event(admin, "ann")
    await add_event(admin, "ann", "attempts = 4, available_at = now() + interval '1 minute'")
    await add_event(admin, "bob", "attempts = 1, leased_until = now() + interval '12 s'")
    await add_event(admin, "bob", "attempts = 1, leased_until = now() - interval '5 s'")
    assert not await operator.findings()


@pytest.mark.parametrize("check", PLANTINGS)
async def test_a_planted_event_is_found_released_and_delivered(
    check: str, operator: Operator, admin: Connection, relay: Relay, arrived: list[OutboxEvent]
) -> None:
    event_id = await add_event(admin, "ann", PLANTINGS[check])
    (finding,) = await operator.findings()
    assert (finding.check, finding.user_id) == (check, "ann")
    assert finding.row == {"user_id": "ann", "event_id": str(event_id)}
    assert "example.org" not in str(finding.evidence)
    await add_event(admin, "bob")  # the healthy one waits behind it
    await operator.mend(check)
    await relay.deliver_due(TOPIC)
    assert event_id in {event.event_id for event in arrived}
    assert not await operator.findings()


@pytest.mark.parametrize("check", PLANTINGS)
async def test_a_discarded_event_is_never_delivered_and_comes_back_when_that_is_undone(
    check: str, operator: Operator, admin: Connection, relay: Relay, arrived: list[OutboxEvent]
) -> None:
    event_id = await add_event(admin, "ann", PLANTINGS[check])
    before = await admin.fetch("SELECT * FROM outbox")
    plan = await operator.mend(check, repair="purse.discard_event")
    await relay.deliver_due(TOPIC)
    assert (arrived, await operator.findings()) == ([], [])
    kept = await admin.fetchval("SELECT before ->> 'event_id' FROM repair_journal")
    assert kept == str(event_id)
    await operator.undo(plan)
    assert await admin.fetch("SELECT * FROM outbox") == before
    assert [finding.check for finding in await operator.findings()] == [check]


async def test_an_event_that_the_relay_has_touched_since_is_skipped_and_the_others_are_released(
    operator: Operator, admin: Connection
) -> None:
    first, second = [await add_event(admin, user, PLANTINGS[PARKED]) for user in ("ann", "bob")]
    plan, _ = await operator.plan(PARKED)
    await admin.execute("UPDATE outbox SET attempts = attempts + 1 WHERE event_id = $1", first)
    rows = await operator.apply(plan)
    assert [row.outcome for row in rows] == [RowOutcome.SKIPPED, RowOutcome.APPLIED]
    assert [finding.row["event_id"] for finding in await operator.findings()] == [str(first)]
    assert await admin.fetchval("SELECT attempts FROM outbox WHERE event_id = $1", second) == 0


async def test_events_of_one_learner_are_planned_for_this_learner_alone(
    operator: Operator, admin: Connection
) -> None:
    for user in ("ann", "bob"):
        for change in PLANTINGS.values():
            await add_event(admin, user, change)
    both = await add_event(
        admin, "ann", "created_at = now() - interval '1 hour', leased_until = now() + interval '1 day'"
    )
    plan, rows = await operator.plan(user_id="ann")
    assert plan.counts.rows == 4
    assert {row.change.user_id for row in rows} == {"ann"}
    assert [row.change.before["event_id"] for row in rows if row.change.before].count(str(both)) == 1
