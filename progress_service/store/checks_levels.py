"""Checks of levels: against the ledger, the catalog, the grants and the resets."""

from __future__ import annotations

from datetime import timedelta

from chassis.diagnostics.checks import Check, SqlWalk
from chassis.diagnostics.findings import Severity
from chassis.postgres import Database
from progress_service.store.history import epoch_of, gained_by
from progress_service.store.rebuilding import REBUILD
from progress_service.store.repairs_levels import ACCEPT_LEVEL

DECIDED_WITHIN = timedelta(minutes=10)
"""Rows that an older catalog decided are decided again within seconds, unless the service stands still."""
CATALOG_SETTLED = timedelta(minutes=5)
"""A transaction that began so long after a change of the catalog has seen the change."""
FIRST_VERSION = 2
"""The version of a specialization whose levels were put once: to put them raises the new row's version."""

_ROW = "jsonb_build_object('user_id', step.user_id, 'specialization', step.specialization)"
_LATEST = epoch_of("step.user_id", "step.specialization")

# A row of another epoch than that of the last reset is found by `level_epoch` alone.
_XP = f"""
    SELECT step.user_id,
           jsonb_build_object('user_id', step.user_id, 'specialization', differing.specialization) AS row,
           differing.stored || ' XP' AS observed, differing.counted || ' XP in the ledger' AS expected,
           NULL::timestamptz AS since, '{{}}'::jsonb AS evidence
      FROM step
     CROSS JOIN LATERAL (
           SELECT specialization, coalesce(progress.xp, 0) AS stored, coalesce(ledger.xp, 0) AS counted
             FROM (SELECT specialization, xp, epoch
                     FROM specialization_progress
                    WHERE user_id = step.user_id) AS progress
             FULL JOIN ({gained_by("step.user_id")}) AS ledger USING (specialization)
            WHERE coalesce(progress.xp, 0) <> coalesce(ledger.xp, 0)
              AND (progress.epoch IS NULL OR progress.epoch = {epoch_of("step.user_id", "specialization")})
           ) AS differing
"""
_REACHED = """
      JOIN specializations AS catalog ON catalog.specialization = step.specialization
     CROSS JOIN LATERAL (
           SELECT coalesce(max(rung.level) FILTER (WHERE rung.xp_required <= step.xp), 0) AS level,
                  coalesce(max(rung.level), 0) AS max_level
             FROM specialization_levels AS rung
            WHERE rung.specialization = step.specialization
           ) AS reached
"""
_EVIDENCE = """
    jsonb_build_object('xp', step.xp, 'grantedLevel', step.granted_level, 'epoch', step.epoch,
                       'decidedBy', step.catalog_version, 'changedAt', step.updated_at)
"""
_TOO_LOW = f"""
    SELECT step.user_id, {_ROW} AS row, 'level ' || step.level AS observed,
           format('level %s, by %s XP', reached.level, step.xp) AS expected,
           greatest(step.updated_at, catalog.updated_at) AS since,
           {_EVIDENCE} || jsonb_build_object('catalog', catalog.version) AS evidence
      FROM step
      {_REACHED}
     WHERE step.level < reached.level
"""
_TOP_LEVEL = f"""
    SELECT step.user_id, {_ROW} AS row,
           format('highest level %s, by the catalog %s', step.max_level, step.catalog_version) AS observed,
           format('highest level %s, by the catalog %s', greatest(step.level, reached.max_level),
                  catalog.version) AS expected,
           greatest(step.updated_at, catalog.updated_at) AS since, {_EVIDENCE} AS evidence
      FROM step
      {_REACHED}
     WHERE step.catalog_version <> catalog.version
        OR step.max_level <> greatest(step.level, reached.max_level)
"""
# A level that an earlier catalog gave stays, and earlier catalogs are not kept. So a level can be judged if
# the catalog has never changed, or if all that could raise the level has happened since its last change.
_UNEXPLAINED = f"""
    SELECT step.user_id, {_ROW} AS row, 'level ' || step.level AS observed,
           format('level %s at most: %s by XP, %s granted', explained.level, reached.level,
                  step.granted_level) AS expected,
           step.updated_at AS since, {_EVIDENCE} AS evidence
      FROM step
      LEFT JOIN specializations AS catalog ON catalog.specialization = step.specialization
     CROSS JOIN LATERAL (
           SELECT coalesce(max(rung.level) FILTER (WHERE rung.xp_required <= step.xp), 0) AS level
             FROM specialization_levels AS rung
            WHERE rung.specialization = step.specialization
           ) AS reached
     CROSS JOIN LATERAL (
           SELECT greatest(step.granted_level, reached.level, least(step.epoch, 1)) AS level
           ) AS explained
     CROSS JOIN LATERAL (
           SELECT min(entry.recorded_at) AS first_at
             FROM xp_entries AS entry
            WHERE entry.user_id = step.user_id AND entry.specialization = step.specialization
              AND entry.epoch = step.epoch
              AND step.level > explained.level
           ) AS earned
     CROSS JOIN LATERAL (
           SELECT max(reset.reset_at) AS begun_at
             FROM progress_resets AS reset
            WHERE reset.user_id = step.user_id AND reset.epoch = step.epoch
           ) AS begun
     WHERE step.level > explained.level
       AND (coalesce(catalog.version, {FIRST_VERSION}) <= {FIRST_VERSION}
            OR step.epoch = 0 AND step.granted_level = 0
               AND earned.first_at > catalog.updated_at + interval '{CATALOG_SETTLED.total_seconds():.0f} s'
            OR step.epoch > 0
               AND begun.begun_at > catalog.updated_at + interval '{CATALOG_SETTLED.total_seconds():.0f} s')
"""
_EPOCH = f"""
    SELECT step.user_id, {_ROW} AS row, 'epoch ' || step.epoch AS observed,
           'epoch ' || latest.epoch AS expected, NULL::timestamptz AS since, {_EVIDENCE} AS evidence
      FROM step
     CROSS JOIN LATERAL (SELECT {_LATEST} AS epoch) AS latest
     WHERE step.epoch <> latest.epoch
"""


def levels_checks(database: Database) -> list[Check]:
    """The checks of levels."""

    def walk(find: str) -> SqlWalk:
        return SqlWalk(
            database, table="specialization_progress", key="user_id text, specialization text", find=find
        )

    return [
        Check(
            check_id="progress.level_xp",
            severity=Severity.HIGH,
            meaning="The XP in a specialization are not those that the learner has earned in it.",
            repairs=(REBUILD,),
            walk=SqlWalk(database, table="learner_statistics", key="user_id text", find=_XP),
        ),
        Check(
            check_id="progress.level_too_low",
            severity=Severity.CRITICAL,
            meaning="The learner has the XP for a higher level, and does not have the level.",
            age=DECIDED_WITHIN,
            repairs=(REBUILD,),
            walk=walk(_TOO_LOW),
        ),
        Check(
            check_id="progress.level_unexplained",
            severity=Severity.MEDIUM,
            meaning="The learner has a level that neither XP nor a grant has given.",
            repairs=(ACCEPT_LEVEL,),
            advice="A repair lowers no level. If the learner must not keep it, reset the specialization.",
            walk=walk(_UNEXPLAINED),
        ),
        Check(
            check_id="progress.max_level",
            severity=Severity.MEDIUM,
            meaning="The highest level that the learner can reach is shown as it is not.",
            age=DECIDED_WITHIN,
            repairs=(REBUILD,),
            walk=walk(_TOP_LEVEL),
        ),
        Check(
            check_id="progress.level_epoch",
            severity=Severity.HIGH,
            meaning="The learner's progress was reset, and the level has not begun again with the reset.",
            advice="Order the reset of the specialization again: it is the only thing that lowers a level.",
            walk=walk(_EPOCH),
        ),
    ]
