"""The tabs of learners on a whole stack: what they are told is what is stored, through restarts too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from homeroom.services import GATEWAY, SERVICES
from homeroom.supervisor import Stack
from tests.support.event_streams import Tab
from tests.support.http_client import HttpClient, unique
from tests.support.waiting import eventually

LEARNERS = 6


def tab_of(stack: Stack, user: str) -> Tab:
    return Tab(base_url=stack.gateway_url, token=stack.token(user))


async def test_two_tabs_of_a_learner_agree_and_another_learner_hears_nothing(
    stack: Stack, http: HttpClient
) -> None:
    ada, eve, test = unique("ada"), unique("eve"), unique("test")
    for user in (ada, eve):
        await http.put_account(user)
    await http.put_test(test, questions=1)
    async with tab_of(stack, ada) as one, tab_of(stack, ada) as two, tab_of(stack, eve) as other:
        for tab in (one, two, other):
            await eventually(lambda tab=tab: len(tab.told) >= 2)
        entitled = one.data("entitlement")[-1]["fingerprint"]
        session = (await http.start(ada, test, key="k1")).body["sessionId"]
        await http.send(
            "POST",
            f"/v1/sessions/{session}/answers",
            user=ada,
            key="k2",
            json={"questionId": "q1", "choice": "2"},
        )
        completed = await http.send("POST", f"/v1/sessions/{session}:complete", user=ada, key="k3")
        assert completed.status == 200
        stored = (completed.body["version"], "COMPLETED")
        for tab in (one, two):
            await eventually(lambda tab=tab: stored in tab.states(session))
            await eventually(lambda tab=tab: tab.data("progress")[-1]["version"] > 0)
            await eventually(lambda tab=tab: tab.data("entitlement")[-1]["fingerprint"] != entitled)
            assert_in_order(tab, [session])
        assert other.data("session") == []
        assert len(other.told) == 2


@pytest.mark.fault
@pytest.mark.timeout(300)
async def test_tabs_that_come_back_miss_nothing_and_hear_nothing_twice_through_a_rolling_restart(
    stack: Stack, http: HttpClient
) -> None:
    users = [unique("tab") for _ in range(LEARNERS)]
    tests = [unique("test") for _ in range(4)]
    for user in users:
        await http.put_account(user)
    for test in tests:
        await http.put_test(test, questions=3, countsTowardDailyLimit=False)
    async with AsyncExitStack() as opened:
        tabs = [await opened.enter_async_context(tab_of(stack, user)) for user in users]
        for tab in tabs:
            await eventually(lambda tab=tab: len(tab.told) >= 2)
        going = asyncio.Event()
        work = [asyncio.create_task(_work(http, user, tests, going)) for user in users]
        for service in SERVICES:
            await stack.terminate(service.package)
            await stack.wait_ready()
            if service is GATEWAY:
                for tab in tabs:
                    await eventually(lambda tab=tab: tab.ends[:1] == ["STOPPING"])
        going.set()
        ended = await asyncio.gather(*work)
        for user, tab, sessions in zip(users, tabs, ended, strict=True):
            for session in sessions:
                answer = await http.send("GET", f"/v1/sessions/{session}", user=user)
                stored = (answer.body["version"], answer.body["state"])
                await eventually(
                    lambda tab=tab, session=session, stored=stored: tab.states(session)[-1:] == [stored],
                    seconds=30,
                )
            version = (await http.stats(user))["version"]
            await eventually(
                lambda tab=tab, version=version: tab.data("progress")[-1]["version"] == version, seconds=30
            )
            assert_in_order(tab, sessions)
            assert set(tab.statuses) <= {200, 503}


def assert_in_order(tab: Tab, sessions: Sequence[str]) -> None:
    """Whether each version was told at most once, and in order."""
    assert {each["sessionId"] for each in tab.data("session")} <= set(sessions)
    for session in sessions:
        versions = [version for version, _ in tab.states(session)]
        assert versions == sorted(set(versions))
    progress = [each["version"] for each in tab.data("progress")]
    assert progress == sorted(set(progress))


async def _work(http: HttpClient, user: str, tests: Sequence[str], stop: asyncio.Event) -> list[str]:
    """Takes the tests one after the other, retrying as README.md says; the ids of the sessions."""
    sessions: list[str] = []
    number = 0
    while not stop.is_set() or number < len(tests):
        number += 1
        test = tests[number % len(tests)]
        started = await http.start_until_answered(user, test, key=f"{user}-{number}")
        assert started.status in {200, 201}, started.text
        session = started.body["sessionId"]
        sessions.append(session)
        for question in (1, 2, 3):
            await http.send_until_answered(
                "POST",
                f"/v1/sessions/{session}/answers",
                user=user,
                key=f"{user}-{number}-{question}",
                json={"questionId": f"q{question}", "choice": "2"},
            )
        await http.send_until_answered(
            "POST", f"/v1/sessions/{session}:complete", user=user, key=f"{user}-{number}-c"
        )
    return sessions
