"""The checks and repairs of an outbox: what has not arrived, and what keeps it from arriving."""

from __future__ import annotations

from datetime import timedelta

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.diagnostics.repairs import Repair, planned_by
from chassis.postgres import Database

WAITING_MAX = timedelta(minutes=15)
"""A receiver that was restarted has got its events after this time: the relay tries each minute at least."""
AHEAD_MAX = timedelta(minutes=10)
"""The relay sets no lease and no next try as far ahead as this."""


def outbox_checks(database: Database, service: str) -> list[Check]:
    """The checks of the outbox.

    Args:
        database: the store of the service, with the outbox.
        service: the short name of the service, such as "session"; the ids of the checks begin with it.
    """
    repairs = (f"{service}.release_event", f"{service}.discard_event")
    return [
        Check(
            check_id=f"{service}.outbox_parked",
            severity=Severity.HIGH,
            meaning="Another service has refused something that the learner did, and nobody tries it again.",
            repairs=repairs,
            walk=SqlWalk(
                database,
                table="outbox",
                key="parked_at timestamptz, user_id text, event_id uuid",
                find=_PARKED,
                where="parked_at IS NOT NULL",
            ),
        ),
        Check(
            check_id=f"{service}.outbox_old",
            severity=Severity.MEDIUM,
            meaning="Something that the learner did has not reached another service for many minutes.",
            age=WAITING_MAX,
            repairs=repairs,
            advice="Look at /readyz of the receiver first: its events arrive by themselves once it answers.",
            walk=SqlWalk(database, table="outbox", key="user_id text, event_id uuid", find=_OLD),
        ),
        Check(
            check_id=f"{service}.outbox_lease",
            severity=Severity.MEDIUM,
            meaning="Something that the learner did is kept from another service for longer than it may be.",
            repairs=repairs,
            walk=SqlWalk(database, table="outbox", key="user_id text, event_id uuid", find=_LEASED),
        ),
    ]


def outbox_repairs(service: str) -> list[Repair]:
    """The repairs of the outbox.

    Args:
        service: the short name of the service, as for `outbox_checks`.
    """
    return [
        Repair(
            repair_id=f"{service}.release_event",
            meaning="Delivers the event again, from now on; the receiver recognizes one that it has.",
            tables=("outbox",),
            plan=planned_by(_RELEASE),
        ),
        Repair(
            repair_id=f"{service}.discard_event",
            meaning="Removes the event: the receiver never gets it. The journal keeps it.",
            tables=("outbox",),
            plan=planned_by(_DISCARD),
        ),
    ]


_ROW = "jsonb_build_object('user_id', user_id, 'event_id', event_id) AS row"
# A refusal may quote what it refuses.
_EVIDENCE = r"""
    jsonb_build_object(
        'topic', topic, 'attempts', attempts, 'createdAt', created_at, 'availableAt', available_at,
        'lastError', left(regexp_replace(coalesce(last_error, ''), '\S+@\S+', '(address)', 'g'), 200)
    ) AS evidence
"""
_PARKED = f"""
    SELECT user_id, {_ROW}, 'parked' AS observed, 'delivered' AS expected, parked_at AS since, {_EVIDENCE}
      FROM step
"""
_OLD = f"""
    SELECT user_id, {_ROW}, format('waits after %s attempts', attempts) AS observed,
           'delivered' AS expected, created_at AS since, {_EVIDENCE}
      FROM step
     WHERE parked_at IS NULL
"""
_LEASED = f"""
    SELECT user_id, {_ROW},
           format('leased until %s, next try at %s', coalesce(leased_until::text, 'never'), available_at)
               AS observed,
           'tried again within minutes' AS expected, NULL::timestamptz AS since, {_EVIDENCE}
      FROM step
     WHERE parked_at IS NULL
       AND greatest(leased_until, available_at)
           > clock_timestamp() + interval '{AHEAD_MAX.total_seconds():.0f} s'
"""
_FOUND_EVENTS = """
      FROM found
     CROSS JOIN LATERAL (
           SELECT *
             FROM outbox
            WHERE outbox.user_id = found.user_id AND outbox.event_id = (found.row ->> 'event_id')::uuid
            LIMIT 1
           ) AS event
     ORDER BY event.user_id, event.event_id
"""
_RELEASE = f"""
    SELECT DISTINCT ON (event.user_id, event.event_id)
           event.event_id::text AS unit, event.user_id, 'outbox' AS table_name, to_jsonb(event) AS before,
           to_jsonb(event) || jsonb_build_object('parked_at', NULL, 'leased_until', NULL, 'attempts', 0,
                                                 'available_at', clock_timestamp()) AS after
    {_FOUND_EVENTS}
"""
_DISCARD = f"""
    SELECT DISTINCT ON (event.user_id, event.event_id)
           event.event_id::text AS unit, event.user_id, 'outbox' AS table_name, to_jsonb(event) AS before,
           NULL::jsonb AS after
    {_FOUND_EVENTS}
"""
