"""A course over HTTP, as an app takes a learner through it; this stack has no Redis."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.test_refusals import assert_problem
from tests.support.http_client import HttpClient, unique


@pytest.fixture
async def learner(http: HttpClient) -> str:
    user = unique("learner")
    await http.put_account(user)
    return user


async def put_course(http: HttpClient) -> tuple[str, list[str]]:
    """The course, and the paths of its lessons in their order."""
    course, video = unique("course"), {"videoSeconds": 60, "minWatchedRatio": 0.5}
    modules: list[dict[str, Any]] = [
        {
            "moduleId": f"{course}-1",
            "title": "One",
            "lessons": [
                {"lessonId": "a", "title": "A", "xp": 10},
                {"lessonId": "b", "title": "B", "xp": 10, **video},
            ],
        },
        {
            "moduleId": f"{course}-2",
            "title": "Two",
            "lessons": [{"lessonId": "c", "title": "C", "xp": 5}],
        },
    ]
    answer = await http.admin("PUT", f"/v1/courses/{course}", json={"title": course, "modules": modules})
    assert (answer.status, answer.body["modules"]) == (200, modules)
    paths = [
        f"/v1/lessons/{module['moduleId']}/{lesson['lessonId']}"
        for module in modules
        for lesson in module["lessons"]
    ]
    return course, paths


async def test_a_learner_takes_a_course_over_http(http: HttpClient, learner: str) -> None:
    course, (a, b, c) = await put_course(http)

    async def post(path: str, key: str) -> Any:
        return await http.send_until_answered("POST", path, user=learner, json={}, key=key)

    async def get(path: str) -> Any:
        return await http.send_until_answered("GET", path, user=learner)

    enrolled = await post(f"/v1/courses/{course}/enrollment", "enroll")
    assert (enrolled.status, enrolled.body["totalLessons"]) == (200, 3)
    assert_problem(await post(f"{b}:complete", "too-early"), 403, "LESSON_LOCKED")

    done = await post(f"{a}:complete", "a")
    expected = {"success": True, "dbUpdated": True, "cacheUpdated": False, "xpAwarded": 10}
    assert done.body == expected | {
        "version": done.body["version"],
        "next": {"moduleId": f"{course}-1", "lessonId": "b", "accessible": True},
    }
    again = await post(f"{a}:complete", "a")
    assert again.replayed
    assert again.body == done.body

    access = await get(f"{b}/access?minVersion={done.body['version']}")
    assert access.body == {
        "accessible": True,
        "reason": "PREREQUISITE_COMPLETED",
        "source": "STORE",
        "version": done.body["version"],
    }
    assert_problem(await post(f"{b}:complete", "unwatched"), 409, "ENGAGEMENT_TOO_LOW")
    watched = await http.send_until_answered(
        "PUT",
        f"{b}/watched",
        user=learner,
        json={"ranges": [{"fromSeconds": 0, "toSeconds": 45}], "opId": "o1"},
    )
    assert (watched.body["watchedRatio"], watched.body["opId"]) == (0.75, "o1")
    for path, key in ((b, "b"), (c, "c")):
        done = await post(f"{path}:complete", key)
        assert done.status == 200, done.text
    assert "next" not in done.body

    progress = (await get(f"/v1/progress?courseId={course}&minVersion={done.body['version']}")).body
    assert [each["status"] for each in progress["lessons"]] == ["COMPLETED"] * 3
    (enrollment,) = (await get("/v1/enrollments")).body["enrollments"]
    assert (enrollment["completedLessons"], "completedAt" in enrollment) == (3, True)
    stats = (await get("/v1/stats")).body
    assert (stats["enrolled"], stats["completedLessons"], stats["xp"]) == (1, 3, 25)


async def test_who_may_not_complete_is_told_why(http: HttpClient) -> None:
    _, (a, _, _) = await put_course(http)
    unverified, nobody = unique("learner"), unique("nobody")
    await http.put_account(unverified, emailVerified=False)

    async def complete(user: str, path: str = a, **options: Any) -> Any:
        return await http.send_until_answered("POST", f"{path}:complete", user=user, json={}, **options)

    assert_problem(await complete(unverified, key="k"), 403, "EMAIL_NOT_VERIFIED")
    assert_problem(await complete(nobody, key="k"), 400, "INVALID_USER_REFERENCE")
    assert_problem(await complete(unverified), 400, "IDEMPOTENCY_KEY_MISSING")
    assert_problem(await complete(unverified, "/v1/lessons/nowhere/a", key="k"), 404, "NOT_FOUND")
    assert_problem(await complete(unverified, "/v1/lessons/no%20where/a", key="k"), 400, "INVALID_ARGUMENT")
