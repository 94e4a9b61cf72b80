"""An operator finds what is wrong in a running school, mends it by a plan, and takes it back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import asyncpg
import pytest

from chassis import failpoints
from homeroom.api import Api
from homeroom.diagnostics_api import DiagnosticsApi, PlanName
from homeroom.services import import_path
from homeroom.supervisor import Stack
from tests.acceptance import conftest
from tests.support.diagnosing import diagnose
from tests.support.http_client import HttpClient, unique
from tests.support.waiting import eventually

MISMATCH = "subscription.usage_mismatch"


async def homeroom(stack: Stack, *arguments: str) -> tuple[int, Any]:
    """Run a command against the stack as an operator elsewhere does; its exit code and its JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "homeroom", *arguments, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PYTHONPATH": import_path(),
            "HOMEROOM_URL": stack.gateway_url,
            "HOMEROOM_TOKEN": stack.token("olga", ("admin",)),
        },
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    assert output, errors.decode()
    return process.returncode, json.loads(output)


async def learners_with_a_test(stack: Stack, http: HttpClient, count: int) -> list[str]:
    """Learners who have each used one test of today."""
    test, names = unique("repaired"), [unique("learner") for _ in range(count)]
    await http.put_test(test, questions=1)

    async def take(name: str) -> None:
        await http.put_account(name)
        started = await http.start_until_answered(name, test, key=f"{name}-start")
        path = f"/v1/sessions/{started.body['sessionId']}"
        answer = {"questionId": "q1", "choice": "2"}
        await http.send("POST", f"{path}/answers", user=name, json=answer, key=f"{name}-1")
        await http.send("POST", f"{path}:complete", user=name, json={}, key=f"{name}-end")

    await asyncio.gather(*map(take, names))

    async def counted() -> bool:
        return await used(stack, names) == [1] * count

    await eventually(counted, seconds=30)
    return names


async def used(stack: Stack, names: list[str], *, more: int = 0) -> list[int]:
    """How many tests of today the store counts for each; first it counts `more` too many: the fault."""
    truth = await asyncpg.connect(stack.dsn("subscription"))
    try:
        if more:
            await truth.execute(
                "UPDATE daily_usage SET used = used + $2 WHERE user_id = ANY ($1::text[])", names, more
            )
        rows = await truth.fetch(
            "SELECT used FROM daily_usage WHERE user_id = ANY ($1::text[]) ORDER BY user_id", names
        )
        return [row["used"] for row in rows]
    finally:
        await truth.close()


async def journal_of(stack: Stack, plan_id: str) -> list[str]:
    truth = await asyncpg.connect(stack.dsn("subscription"))
    try:
        rows = await truth.fetch(
            "SELECT user_id, changed_by FROM repair_journal WHERE plan_id = $1::text::uuid", plan_id
        )
    finally:
        await truth.close()
    assert {row["changed_by"] for row in rows} <= {"olga"}
    return sorted(row["user_id"] for row in rows)


async def test_an_operator_finds_mends_and_takes_back_from_the_command_line(
    stack: Stack, http: HttpClient
) -> None:
    (name,) = await learners_with_a_test(stack, http, 1)
    assert (await diagnose(stack, user_id=name)).findings == []
    await used(stack, [name], more=1)

    code, found = await homeroom(stack, "diagnose", "--user", name)
    (finding,) = found["findings"]
    assert (code, finding["check"], finding["userId"]) == (0, MISMATCH, name)
    assert (finding["observed"], finding["expected"]) != ("", "")
    assert finding["means"]

    code, made = await homeroom(stack, "repair", "plan", MISMATCH, "--user", name, "--reason", "ticket 1")
    (plan,) = (each["plan"] for each in made)
    (row,) = (row for each in made for row in each["rows"])
    assert (row["before"]["used"], row["after"]["used"]) == (2, 1)
    assert await used(stack, [name]) == [2]
    handle = f"subscription/{plan['planId']}"

    code, done = await homeroom(stack, "repair", "apply", handle, "--hash", plan["hash"])
    assert (code, done["plan"]["state"], [row["outcome"] for row in done["rows"]]) == (
        0,
        "APPLIED",
        ["APPLIED"],
    )
    assert await used(stack, [name]) == [1]
    assert (await diagnose(stack, user_id=name)).findings == []

    code, undone = await homeroom(stack, "repair", "undo", handle, "--hash", plan["hash"])
    assert (code, undone["plan"]["state"]) == (0, "UNDONE")
    assert await used(stack, [name]) == [2]

    _, listed = await homeroom(stack, "repair", "list")
    assert plan["planId"] in {each["planId"] for each in listed}
    _, shown = await homeroom(stack, "repair", "show", handle)
    assert [row["outcome"] for row in shown["rows"]] == ["UNDONE"]
    await used(stack, [name], more=-1)


@pytest.mark.fault
async def test_a_service_that_is_killed_in_the_middle_of_applying_goes_on_and_does_nothing_twice(
    stack: conftest.TestedStack, http: HttpClient
) -> None:
    names = await learners_with_a_test(stack, http, 120)
    await used(stack, names, more=1)
    async with Api(stack.gateway_url, stack.token("olga", ("admin",))) as api:
        asked = DiagnosticsApi(api)
        made = await asked.plan("subscription", check=MISMATCH, repair="", user_id="", reason="ticket 2")
        plan = PlanName("subscription", made["plan"]["planId"])
        failpoints.arm(stack.failpoints, "repairs.after_batch", "kill")
        states = [answer["plan"]["state"] async for answer in asked.work(plan, "apply", made["plan"]["hash"])]
        assert states[-1] == "APPLIED"
        assert not (stack.failpoints / "repairs.after_batch").exists()
        again = [answer async for answer in asked.work(plan, "apply", made["plan"]["hash"])]
    assert [answer.get("rows", []) for answer in again] == [[]]
    assert await used(stack, names) == [1] * len(names)
    journal = await journal_of(stack, plan.plan_id)
    assert sorted(set(journal)) == journal
    assert set(names) <= set(journal)


async def test_nobody_but_an_administrator_diagnoses_or_repairs(stack: Stack, http: HttpClient) -> None:
    plan = "0190a7f0-0000-7000-8000-000000000002"
    asked = [
        ("GET", "/v1/diagnostics/session/checks", None),
        ("GET", "/v1/diagnostics/session/findings", None),
        ("POST", "/v1/repairs/session:plan", {"reason": "mine"}),
        ("GET", "/v1/repairs/session", None),
        ("GET", f"/v1/repairs/session/{plan}", None),
        ("POST", f"/v1/repairs/session/{plan}:apply", {"hash": "0" * 64}),
        ("POST", f"/v1/repairs/session/{plan}:undo", {"hash": "0" * 64}),
    ]
    for role in ("learner", "instructor"):
        for method, path, body in asked:
            answer = await http.send(
                method, path, user="eve", roles=(role,), json=body, key=unique("k") if body else None
            )
            assert (answer.status, answer.body["reason"]) == (403, "PERMISSION_DENIED"), path
