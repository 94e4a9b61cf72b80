"""Each check finds the fault that it looks for, and nothing else; it is sound again afterwards."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from chassis.diagnostics.findings import Severity
from tests.environment import (  # noqa: F401 - their plantings register themselves
    plantings_of_databases,
    plantings_of_machines,
    plantings_of_schemas,
)
from tests.environment.planting import PLANTINGS, Planting
from tests.environment.test_health import EVERY_CHECK
from tests.environment.world import Ground, World, healthy


@pytest.mark.parametrize("planting", PLANTINGS, ids=str)
async def test_a_planted_fault_is_found(ground: Ground, planting: Planting) -> None:
    async with healthy(ground, planting.process, harmed=planting.harms_database) as world:
        await planting.plant(world)
        findings = await world.look()
        secrets = secrets_of(world)
    found = [
        (each.severity, each.observed)
        for each in findings
        if each.check == planting.check and planting.says in each.observed
    ]
    assert [severity for severity, _ in found] == [planting.severity], findings
    others = {
        each.check for each in findings if each.severity > Severity.INFO and each.check != planting.check
    }
    assert others <= planting.also, findings
    assert not [secret for secret in secrets if secret in repr(findings)]


def secrets_of(world: World) -> set[str]:
    """What must not be shown: the token, and the passwords in addresses. A user's name is no secret."""
    found = {world.environ.get("HOMEROOM_SERVICE_TOKEN") or "no token"}
    for name in ("HOMEROOM_DATABASE_URL", "HOMEROOM_REDIS_URL"):
        address = re.search(r"//([^:@/]*):([^@/]+)@", world.environ.get(name, ""))
        if address is not None and address[1] != address[2]:
            found |= {address[2], unquote(address[2])}
    return found


def test_each_check_has_a_planting_and_its_worst_severity_is_planted() -> None:
    planted = {planting.check: Severity.INFO for planting in PLANTINGS}
    for planting in PLANTINGS:
        planted[planting.check] = max(planted[planting.check], planting.severity)
    assert planted.keys() == {check.id for check in EVERY_CHECK}
    worse = {
        check.id: (check.severity, planted[check.id])
        for check in EVERY_CHECK
        if planted[check.id] > check.severity
    }
    assert not worse
