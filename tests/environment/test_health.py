"""Nothing is found where nothing is wrong, and every check says what a person needs."""

from __future__ import annotations

import re

import pytest

from chassis.diagnostics.environment import EnvironmentCheck
from chassis.diagnostics.environment.registry import PAGE
from chassis.diagnostics.findings import Severity
from tests.environment.world import CONFIGS, OWN_CHECKS, Ground, healthy
from tests.environment.world import ENVIRONMENT_CHECKS as COMMON_CHECKS
from tests.support.command_line import ROOT

QUOTED = re.compile(r"`([a-z_]+)`")
EVERY_CHECK = [*COMMON_CHECKS, *(check for checks in OWN_CHECKS.values() for check in checks)]


@pytest.mark.parametrize("process", CONFIGS)
async def test_nothing_is_wrong_around_a_healthy_process(ground: Ground, process: str) -> None:
    async with healthy(ground, process, harmed=False) as world:
        assert await world.faults() == []
        facts = {finding.check for finding in await world.look()}
        assert facts


async def test_facts_are_told_with_their_figures(ground: Ground) -> None:
    async with healthy(ground, "progress_service", harmed=False) as world:
        told = {finding.check: finding for finding in await world.look()}
    assert "PostgreSQL" in told["environment.database_reachable"].observed
    assert float(told["environment.database_round_trip"].evidence["fastest_ms"]) > 0
    assert abs(float(told["environment.database_clock"].evidence["offset_seconds"])) < 60
    assert told["environment.database_connections"].evidence["max_connections"] == "200"
    assert told["environment.database_connections"].evidence["pool_max"] == "8"
    assert int(told["environment.transaction_age"].evidence["transactions"]) > 0
    assert "GiB are free" in told["environment.disk_space"].observed


def test_a_check_has_a_name_of_its_own() -> None:
    ids = [check.id for check in EVERY_CHECK]
    assert len(set(ids)) == len(ids)
    assert all(each.startswith("environment.") for each in ids)


def test_each_check_is_in_the_page_for_operators() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    listed = {name for line in page.splitlines() if line.startswith("| `") for name in QUOTED.findall(line)}
    assert {check.id.removeprefix("environment.") for check in EVERY_CHECK} <= listed


@pytest.mark.parametrize("check", EVERY_CHECK, ids=lambda check: check.id)
def test_a_check_says_what_it_means_and_what_to_do(check: EnvironmentCheck) -> None:
    assert check.means.endswith(".")
    assert check.action
    assert check.severity > Severity.INFO
    assert check.needs is None or check.opens is None
