"""All checks of all services, again and again, while a test disturbs the stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from homeroom.api import Api, ApiError
from homeroom.diagnostics_api import SERVICES, DiagnosticsApi
from homeroom.findings import Finding
from homeroom.school_diagnosis import Question, SchoolDiagnosis, diagnose_school
from homeroom.supervisor import Stack
from tests.support.waiting import eventually

LOOK_AGAIN_SECONDS = 0.2


@dataclass
class Diagnosing:
    """What the checks have found; `rounds` counts the runs in which every check came to its end."""

    rounds: int = 0
    findings: list[Finding] = field(default_factory=list)


async def diagnose(stack: Stack, *, user_id: str = "") -> SchoolDiagnosis:
    """Run every check of the stores once. Those of the environment would measure this machine."""
    async with Api(stack.gateway_url, stack.token("root", ("admin",))) as api:
        asked = DiagnosticsApi(api)
        checks = [
            each["checkId"]
            for service in SERVICES
            for each in (await asked.checks(service)).get("checks", [])
        ]
        wanted = [check for check in checks if not check.startswith("environment.")]
        return await diagnose_school(asked, SERVICES, Question(wanted, user_id, ""), tell=_tell_nobody)


@asynccontextmanager
async def diagnosing(stack: Stack) -> AsyncIterator[Diagnosing]:
    """Run all checks until the end of the block, and at least once to their end after it began."""
    seen = Diagnosing()
    stopping = asyncio.Event()

    async def run() -> None:
        while not stopping.is_set() or not seen.rounds:
            try:
                found = await diagnose(stack)
            except ApiError:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)  # a process is down
                continue
            seen.findings += found.findings
            seen.rounds += not found.problems and not any(each.problem for each in found.checks)

    task = asyncio.create_task(run())
    try:
        yield seen
        stopping.set()
        await task
    finally:
        task.cancel()


async def nothing_is_wrong(stack: Stack) -> None:
    """Return when every check has run to its end without a finding; raises with the findings if one stays."""
    last: list[Any] = []

    async def clean() -> bool:
        try:
            found = await diagnose(stack)
        except ApiError as error:
            last[:] = [error]
            return False
        last[:] = [*found.findings, *found.problems, *(each for each in found.checks if each.problem)]
        return not last

    try:
        await eventually(clean, seconds=60)
    except AssertionError:
        raise AssertionError(last) from None


def _tell_nobody(_service: str, _progress: dict[str, Any]) -> None:
    """Nobody watches these runs."""
