"""Sessions become levels, levels become licenses, and what an instructor advances comes back."""

from __future__ import annotations

import pytest

from tests.support.http_client import unique
from tests.support.waiting import eventually


@pytest.fixture
async def learner(http) -> str:
    user = unique("learner")
    await http.put_account(user)
    return user


@pytest.fixture
async def player(http) -> str:
    """A specialization whose levels require 0, 50 and 100 XP."""
    name = unique("PLAYER")
    levels = [
        {"level": level, "name": f"Level {level}", "xpRequired": xp}
        for level, xp in enumerate([0, 50, 100], start=1)
    ]
    answer = await http.admin("PUT", f"/v1/specializations/{name}", json={"name": "Player", "levels": levels})
    assert answer.status == 200, answer.text
    assert answer.body == {"specialization": name, "name": "Player", "levels": levels}
    return name


async def earn(http, user: str, specialization: str, xp: int) -> None:
    """Complete a test that gives this XP."""
    test = unique("test")
    await http.put_test(test, questions=1, xp=xp, specialization=specialization, countsTowardDailyLimit=False)
    session = (await http.start(user, test, key=unique("start"))).body["sessionId"]
    path = f"/v1/sessions/{session}"
    answer = await http.send(
        "POST", f"{path}/answers", user=user, key=unique("a"), json={"questionId": "q1", "choice": "2"}
    )
    assert answer.status == 200, answer.text
    answer = await http.send("POST", f"{path}:complete", user=user, key=unique("c"), json={})
    assert answer.status == 200, answer.text


async def progress(http, user: str) -> dict[str, tuple[int, int]]:
    """XP and level of each specialization."""
    answer = await http.send("GET", "/v1/specializations/progress", user=user)
    assert answer.status == 200, answer.text
    return {each["specialization"]: (each["xp"], each["level"]) for each in answer.body["specializations"]}


async def licenses(http, user: str) -> dict[str, tuple[int, int, str]]:
    answer = await http.send("GET", "/v1/licenses", user=user)
    assert answer.status == 200, answer.text
    return {
        each["specialization"]: (each["level"], each["maxLevel"], each["status"])
        for each in answer.body["licenses"]
    }


def becomes(read, wanted):
    async def has_become() -> bool:
        return await read() == wanted

    return eventually(has_become, seconds=20)


async def test_a_session_an_instructor_and_an_admin_move_level_and_license_together(
    http, learner, player
) -> None:
    await earn(http, learner, player, 50)
    await becomes(lambda: progress(http, learner), {player: (50, 2)})
    await becomes(lambda: licenses(http, learner), {player: (2, 3, "ACTIVE")})
    answer = await http.send("GET", "/v1/achievements", user=learner)
    assert {each["achievement"] for each in answer.body["achievements"]} == {
        "first-session",
        "first-level-up",
    }

    answer = await http.send(
        "POST",
        f"/v1/accounts/{learner}/licenses/{player}:advance",
        user="grace",
        roles=("instructor",),
        key=unique("advance"),
        json={"toLevel": 3, "reason": "an exam"},
    )
    assert answer.status == 200, answer.text
    await becomes(lambda: progress(http, learner), {player: (50, 3)})

    path = f"/v1/accounts/{learner}/progress:reset"
    body = {"scope": {"specialization": player}, "reason": "a new season"}
    answers = [await http.admin("POST", path, key="reset", json=body) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body["epoch"] == 1
    assert answers[1].text == answers[0].text
    assert answers[1].replayed
    assert await progress(http, learner) == {player: (0, 1)}
    await becomes(lambda: licenses(http, learner), {player: (1, 3, "ACTIVE")})


async def test_a_reset_without_a_scope_is_refused(http, learner) -> None:
    for scope in ({}, {"all": True, "courseId": "intro"}):
        answer = await http.admin(
            "POST",
            f"/v1/accounts/{learner}/progress:reset",
            key=unique("reset"),
            json={"scope": scope, "reason": "a new season"},
        )
        assert (answer.status, answer.body["reason"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.fault
async def test_level_ups_while_licenses_are_away_arrive_when_they_are_back(
    stack, http, learner, player
) -> None:
    await earn(http, learner, player, 50)
    await becomes(lambda: licenses(http, learner), {player: (2, 3, "ACTIVE")})
    test = unique("test")
    await http.put_test(test, questions=1, xp=50, specialization=player, countsTowardDailyLimit=False)
    session = (await http.start(learner, test, key=unique("start"))).body["sessionId"]
    path = f"/v1/sessions/{session}"
    await http.send(
        "POST", f"{path}/answers", user=learner, key="a", json={"questionId": "q1", "choice": "2"}
    )
    await stack.kill("subscription_service")
    answer = await http.send_until_answered("POST", f"{path}:complete", user=learner, key="c", json={})
    assert answer.status == 200, answer.text
    await stack.wait_ready()
    await becomes(lambda: progress(http, learner), {player: (100, 3)})
    await becomes(lambda: licenses(http, learner), {player: (3, 3, "COMPLETED")})
