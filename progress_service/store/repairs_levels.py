"""Repairs of levels that only a decision of a person can mend."""

from __future__ import annotations

from chassis.diagnostics.repairs import Repair, planned_by
from progress_service.store.learners import LOCK_LEARNER, VERSIONS

ACCEPT_LEVEL = "progress.accept_level"

# A grant changes nothing that a learner or a license sees, so the learner's version stays.
_ACCEPT = """
    SELECT concat_ws(' ', kept.user_id, kept.specialization) AS unit, kept.user_id,
           'specialization_progress' AS table_name, to_jsonb(kept) AS before,
           to_jsonb(kept) || jsonb_build_object(
               'granted_level', kept.level, 'version', kept.version + 1, 'updated_at', clock_timestamp()
           ) AS after
      FROM found
      JOIN specialization_progress AS kept
        ON kept.user_id = found.user_id AND kept.specialization = found.row ->> 'specialization'
     WHERE kept.granted_level < kept.level
     ORDER BY kept.user_id, kept.specialization
"""

LEVEL_REPAIRS = (
    Repair(
        repair_id=ACCEPT_LEVEL,
        meaning="Writes the level down as granted, so that the learner keeps it.",
        tables=("specialization_progress",),
        plan=planned_by(_ACCEPT),
        lock=LOCK_LEARNER,
        versions=VERSIONS,
    ),
)
