"""Checks of licenses against their progressions."""

from __future__ import annotations

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.postgres import Database
from subscription_service.store.repairs_licenses import REBUILD_LICENSES, REMEMBER_EVENTS

# A license is what its last progression made it. Its highest level may have grown since, and a progression of
# an earlier program does not know its epoch. In rare cases two transactions get their sequence numbers in the
# other order than the learner's lock, so a license that agrees with the latest one by time is right, too.
_MISMATCH = """
    WITH kept AS (
        SELECT license.user_id, license.specialization, license.level, license.max_level, license.epoch,
               license.updated_at
          FROM step
         CROSS JOIN LATERAL (SELECT user_id, specialization, level, max_level, epoch, updated_at
                               FROM licenses
                              WHERE user_id = step.user_id
                             OFFSET 0) AS license
    ), last AS (
        SELECT change.user_id, change.specialization, change.to_level, change.max_level, change.epoch,
               change.origin, change.changed_by, change.changed_at
          FROM step
         CROSS JOIN LATERAL (SELECT DISTINCT ON (specialization) user_id, specialization, to_level, max_level,
                                    epoch, origin, changed_by, changed_at
                               FROM license_changes
                              WHERE user_id = step.user_id
                              ORDER BY specialization, sequence DESC) AS change
    )
    SELECT user_id, jsonb_build_object('user_id', user_id, 'specialization', specialization) AS row,
           CASE WHEN kept.level IS NULL THEN 'no license'
                ELSE format('level %s of %s, epoch %s', kept.level, kept.max_level, kept.epoch)
            END AS observed,
           CASE WHEN last.to_level IS NULL THEN 'a line of the history'
                ELSE format('level %s of at least %s, epoch %s', last.to_level, last.max_level,
                            CASE WHEN last.origin IS NULL THEN coalesce(kept.epoch, 0) ELSE last.epoch END)
            END AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('license_updated_at', kept.updated_at, 'last_changed_at', last.changed_at,
                              'last_changed_by', last.changed_by, 'origin', last.origin) AS evidence
      FROM kept
      FULL JOIN last USING (user_id, specialization)
     WHERE NOT coalesce(kept.level = last.to_level AND kept.max_level >= last.max_level
                        AND kept.max_level >= kept.level
                        AND (last.origin IS NULL OR kept.epoch = last.epoch), false)
       AND NOT EXISTS (SELECT
                         FROM license_changes AS change
                        WHERE change.user_id = kept.user_id AND change.specialization = kept.specialization
                          AND change.to_level = kept.level AND change.max_level <= kept.max_level
                          AND kept.max_level >= kept.level
                          AND (change.origin IS NULL OR change.epoch = kept.epoch)
                          AND change.changed_at = (SELECT max(changed_at)
                                                     FROM license_changes
                                                    WHERE user_id = kept.user_id
                                                      AND specialization = kept.specialization))
"""
_EVENT_MISSING = """
    SELECT step.user_id, jsonb_build_object('user_id', step.user_id, 'sequence', step.sequence) AS row,
           'its event is not remembered' AS observed, 'an event is remembered with its change' AS expected,
           NULL::timestamptz AS since,
           jsonb_build_object('specialization', step.specialization, 'event_id', step.event_id,
                              'changed_at', step.changed_at) AS evidence
      FROM step
     WHERE NOT EXISTS (SELECT
                         FROM license_events
                        WHERE user_id = step.user_id AND specialization = step.specialization
                          AND event_id = step.event_id
                       OFFSET 0)
"""


def license_checks(database: Database) -> list[Check]:
    """Whether each license is what its history made it."""
    return [
        Check(
            check_id="subscription.license_mismatch",
            severity=Severity.HIGH,
            meaning="The learner's license shows another level than its history, or is gone.",
            repairs=(REBUILD_LICENSES,),
            walk=SqlWalk(database, table="accounts", key="user_id text", find=_MISMATCH),
        ),
        Check(
            check_id="subscription.license_event_missing",
            severity=Severity.LOW,
            meaning="A change of the learner's license could be entered into its history a second time.",
            repairs=(REMEMBER_EVENTS,),
            walk=SqlWalk(
                database, table="license_changes", key="user_id text, sequence bigint", find=_EVENT_MISSING
            ),
        ),
    ]
