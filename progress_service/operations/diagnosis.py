"""The checks of progress_service, and the repairs that mend what they find."""

from __future__ import annotations

from chassis.diagnostics.checks import Check
from chassis.diagnostics.repairs import Repair
from chassis.postgres import Database

REPAIRS: tuple[Repair, ...] = ()


def checks(_database: Database) -> list[Check]:
    """All checks of the service, over this database."""
    return []
