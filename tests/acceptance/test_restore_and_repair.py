"""A database is restored to an older point: diagnosis finds it, repairs mend it, the rest is listed."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import asyncpg
import pytest

from homeroom.api import Api
from homeroom.diagnostics_api import DiagnosticsApi, PlanName
from homeroom.findings import Finding
from homeroom.supervisor import Stack
from tests.support.diagnosing import diagnose
from tests.support.http_client import HttpClient
from tests.support.rehearsal import Disagreement, read_disagreements, rehearse, settled_disagreements

LIVE = "live_session_without_open_hold"
"""It was live in the backup, and completed since."""
LOST = "result_without_session"
"""It began after the backup."""

COMMITTED = "committed_hold_without_session"
"""The same, seen from its hold."""

EARLIER = """
    SELECT format('UPDATE %I SET %s WHERE user_id LIKE %L', table_name,
                  string_agg(format('%1$I = %1$I - interval %2$L', column_name, '1 hour'), ', '), 'writer-%')
      FROM information_schema.columns
     WHERE table_name IN ('sessions', 'answers', 'session_events')
       AND data_type = 'timestamp with time zone' AND is_generated = 'NEVER'
     GROUP BY table_name
"""

pytestmark = pytest.mark.fault


@pytest.fixture
def folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    yield root / "backup"
    shutil.rmtree(root)


async def let_an_hour_pass(stack: Stack) -> None:
    """All that the writers did happened an hour earlier: what is younger than a check's age is no finding."""
    truth = await asyncpg.connect(stack.dsn("session"))
    try:
        for (statement,) in await truth.fetch(EARLIER):
            await truth.execute(statement)
    finally:
        await truth.close()


async def repair_all(stack: Stack, findings: list[Finding]) -> list[str]:
    """Apply the usual repair of each check that found something; what was left out, and why."""
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


def learners_of(findings: Iterable[Finding]) -> dict[str, set[str]]:
    """The learners that each check names."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in findings:
        found[each["check"]].add(each["userId"])
    return dict(found)


def learners_by_kind(disagreements: Iterable[Disagreement]) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in disagreements:
        found[each.kind].add(each.user_id)
    return dict(found)


async def test_after_a_restore_repairs_mend_what_can_be_mended_and_the_rest_is_listed_by_learner(
    stack: Stack, http: HttpClient, folder: Path
) -> None:
    before = set(await read_disagreements(stack))
    known = {(each["check"], each["userId"]) for each in (await diagnose(stack)).findings}

    async def new_findings() -> list[Finding]:
        found = (await diagnose(stack)).findings
        return [each for each in found if (each["check"], each["userId"]) not in known]

    async def new_disagreements() -> dict[str, set[str]]:
        found = await settled_disagreements(stack)
        return learners_by_kind(each for each in found if each not in before)

    await rehearse(stack, http, folder)
    await let_an_hour_pass(stack)
    wrong = await new_disagreements()
    assert wrong[LIVE], "no session of the backup was live"
    assert wrong[LOST], "nothing was written after the backup"

    assert learners_of(await new_findings()) == {
        "session.without_hold": wrong[LIVE],
        "session.result_without_session": wrong[LOST],
    }
    told = await repair_all(stack, await new_findings())
    # A session with answers is left to its learner.
    answered = {user for user in wrong[LIVE] if any(user in line for line in told)}
    assert len(told) == len(answered)

    left = await new_disagreements()
    assert left.pop(LIVE, set()) == answered
    assert left == {LOST: wrong[LOST], COMMITTED: wrong[COMMITTED]}
    after = learners_of(await new_findings())
    assert after.pop("session.without_hold", set()) == answered
    assert after == {"session.result_without_session": wrong[LOST]}


@pytest.mark.nightly
async def test_after_a_restore_of_progress_the_results_are_sent_again_and_nothing_is_left(
    stack: Stack, http: HttpClient, folder: Path
) -> None:
    before = set(await read_disagreements(stack))
    known = {(each["check"], each["userId"]) for each in (await diagnose(stack)).findings}
    wrong = learners_by_kind(
        each for each in await rehearse(stack, http, folder, lost="progress") if each not in before
    )
    assert wrong.keys() == {"result_not_counted"}
    await let_an_hour_pass(stack)
    findings = (await diagnose(stack)).findings
    new = learners_of(each for each in findings if (each["check"], each["userId"]) not in known)
    assert new["session.result_missing"] == wrong["result_not_counted"]
    assert await repair_all(stack, findings) == []
    assert [each for each in await settled_disagreements(stack) if each not in before] == []
