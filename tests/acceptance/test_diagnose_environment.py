"""`homeroom diagnose --environment` finds a whole stack by its data folder."""

from __future__ import annotations

from homeroom.services import SERVICES
from tests.support.command_line import run


async def test_nothing_critical_is_around_a_stack_that_runs(stack) -> None:
    finished = await run("diagnose", "--environment", "--data", str(stack.data_dir), "--json")
    assert finished.code == 0, finished
    said = finished.json
    assert {each["process"] for each in said["processes"]} == {service.package for service in SERVICES}
    assert not [each["problem"] for each in said["processes"] if each["problem"]]
    # A busy machine may be slow; all else is as it must be.
    wrong = {each["check"] for each in said["findings"] if each["severity"] in {"HIGH", "CRITICAL"}}
    assert wrong <= {"environment.database_round_trip"}, said["findings"]
    reached = [each for each in said["findings"] if each["check"] == "environment.database_reachable"]
    assert len(reached) == 3
    assert stack.dsn("session").split(":")[2].split("@")[0] not in finished.stdout
