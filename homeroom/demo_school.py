"""A small school for trials: accounts, specializations, courses, tests, questions, made through the API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from homeroom.api import Api


@dataclass(frozen=True, slots=True)
class Seeded:
    accounts: int
    tests: int
    questions: int


@cache
def school() -> dict[str, Any]:
    """The content of `demo_school.json`."""
    text = resources.files("homeroom").joinpath("demo_school.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def tests_offered() -> list[str]:
    return [test["testId"] for test in school()["tests"]]


def right_answer(question_id: str) -> str:
    """An accepted answer to one of the school's questions."""
    for test in school()["tests"]:
        for question in _questions(test):
            if question["questionId"] == question_id:
                return str(question["accepted"][0])
    raise KeyError(question_id)


async def seed(admin: Api) -> Seeded:
    """Create the school; what exists already stays, or is corrected. Raises ApiError."""
    for account in school()["accounts"]:
        body = {name: value for name, value in account.items() if name != "userId"}
        await admin.want("PUT", f"/v1/accounts/{account['userId']}", {**body, "status": "ACTIVE"})
    for specialization in school()["specializations"]:
        body = {name: value for name, value in specialization.items() if name != "specialization"}
        await admin.want("PUT", f"/v1/specializations/{specialization['specialization']}", body)
    for course in school()["courses"]:
        body = {name: value for name, value in course.items() if name != "courseId"}
        await admin.want("PUT", f"/v1/courses/{course['courseId']}", body)
    for test in school()["tests"]:
        await _put_test(admin, test)
    return Seeded(
        accounts=len(school()["accounts"]),
        tests=len(school()["tests"]),
        questions=sum(len(test["questions"]) for test in school()["tests"]),
    )


async def _put_test(admin: Api, test: dict[str, Any]) -> None:
    path = f"/v1/tests/{test['testId']}"
    settings = {name: test[name] for name in test if name not in {"testId", "subject", "questions"}}
    fixed = {"creditCost": 0, "countsTowardDailyLimit": True, "questionCount": len(test["questions"])}
    await admin.want("PUT", path, {**settings, **fixed})
    await admin.want("POST", f"{path}/questions:import", {"questions": _questions(test)})


def _questions(test: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "questionId": f"{test['testId']}-q{number}",
            "subject": test["subject"],
            "difficulty": test["difficulty"],
            **question,
        }
        for number, question in enumerate(test["questions"], start=1)
    ]
