"""A database is restored to an older point: diagnosis finds what disagrees, repairs mend it, the rest is listed."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from homeroom.api import Api
from homeroom.diagnostics_api import DiagnosticsApi, PlanName
from homeroom.findings import Finding
from homeroom.supervisor import Stack
from tests.support.diagnosing import diagnose
from tests.support.http_client import HttpClient
from tests.support.rehearsal import read_disagreements, rehearse, settled_disagreements

pytestmark = pytest.mark.fault


@pytest.fixture
def folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    yield root / "backup"
    shutil.rmtree(root)


async def let_an_hour_pass(stack: Stack) -> None:
    """The live sessions began an hour earlier: what is younger than the age of a check is no finding."""
    truth = await asyncpg.connect(stack.dsn("session"))
    try:
        await truth.execute(
            """
            UPDATE sessions
               SET started_at = started_at - interval '1 hour', seen_at = seen_at - interval '1 hour',
                   last_answer_at = last_answer_at - interval '1 hour'
             WHERE state IN ('active', 'paused')
            """
        )
    finally:
        await truth.close()


async def repair_all(stack: Stack, findings: list[Finding]) -> list[str]:
    """Apply the usual repair of each check that found something; what plans leave out, and rows not changed."""
    told: list[str] = []
    async with Api(stack.gateway_url, stack.token("olga", ("admin",))) as api:
        asked = DiagnosticsApi(api)
        for service, check in sorted({(each["service"], each["check"]) for each in findings}):
            about = {each["checkId"]: each for each in (await asked.checks(service))["checks"]}
            if not about[check].get("repairs"):
                continue
            made = await asked.plan(service, check=check, repair="", user_id="", reason="the restore")
            plan = made["plan"]
            told += plan.get("leftOut", [])
            if not plan.get("counts", {}).get("rows"):
                continue
            async for answer in asked.work(PlanName(service, plan["planId"]), "apply", plan["hash"]):
                told += [f"{row['userId']}: {row['detail']}" for row in answer["rows"] if row.get("detail")]
    return told


async def test_after_a_restore_repairs_mend_what_can_be_mended_and_the_rest_is_listed_by_learner(
    stack: Stack, http: HttpClient, folder: Path
) -> None:
    before = set(await read_disagreements(stack))
    found = [each for each in await rehearse(stack, http, folder) if each not in before]
    await let_an_hour_pass(stack)
    by_kind: defaultdict[str, set[str]] = defaultdict(set)
    for each in found:
        by_kind[each.kind].add(each.user_id)
    findings = (await diagnose(stack)).findings
    by_check: defaultdict[str, set[str]] = defaultdict(set)
    for finding in findings:
        by_check[finding["check"]].add(finding["userId"])
    print({k: len(v) for k, v in by_kind.items()}, {k: len(v) for k, v in by_check.items()})
    try:
        told = await repair_all(stack, findings)
    except Exception:
        import subprocess

        print(
            subprocess.run(
                f"grep -rh -A60 request_failed {stack.data_dir} | cut -c1-9000 | tail -80",
                shell=True,
                capture_output=True,
                text=True,
            ).stdout[-12000:]
        )
        raise
    print(told[:5], len(told))
    left = [each for each in await settled_disagreements(stack) if each not in before]
    by_left: defaultdict[str, set[str]] = defaultdict(set)
    for each in left:
        by_left[each.kind].add(each.user_id)
    after: defaultdict[str, set[str]] = defaultdict(set)
    for finding in (await diagnose(stack)).findings:
        after[finding["check"]].add(finding["userId"])
    print({k: len(v) for k, v in by_left.items()}, {k: len(v) for k, v in after.items()})
    assert 0
