"""The demo's school holds together: questions can be answered, ids are new, names are the API's."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import ParseDict

from homeroom import demo_school
from protos.progress.v1.courses_pb2 import PutCourseRequest
from protos.progress.v1.specializations_pb2 import PutSpecializationRequest
from protos.session.v1.tests_pb2 import ImportQuestionsRequest, PutTestRequest
from protos.subscription.v1.accounts_pb2 import PutAccountRequest


class Recorder:
    """Stands where the API stands, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, object]]] = []

    async def want(self, method: str, path: str, body: dict[str, object]) -> dict[str, object]:
        self.sent.append((method, path, body))
        return {}


async def sent() -> list[tuple[str, str, dict[str, object]]]:
    recorder = Recorder()
    await demo_school.seed(recorder)
    return recorder.sent


async def test_every_request_is_one_the_contract_knows() -> None:
    requests = {
        "accounts": PutAccountRequest,
        "specializations": PutSpecializationRequest,
        "courses": PutCourseRequest,
        "tests": PutTestRequest,
        "questions:import": ImportQuestionsRequest,
    }
    for _, path, body in await sent():
        words = path.split("/")
        ParseDict(body, requests["questions:import" if words[-1] == "questions:import" else words[2]]())


async def test_every_question_has_a_right_answer_among_its_choices() -> None:
    seen: set[str] = set()
    for _, path, body in await sent():
        if not path.endswith("questions:import"):
            continue
        questions = body["questions"]
        assert isinstance(questions, list)
        for question in questions:
            assert question["questionId"] not in seen
            seen.add(question["questionId"])
            answer = demo_school.right_answer(question["questionId"])
            assert answer in (question["choices"] or question["accepted"])
    assert len(seen) == 19


async def test_the_tour_can_reach_the_limit_of_the_free_plan() -> None:
    assert len(demo_school.tests_offered()) > 3


def test_an_unknown_question_has_no_answer() -> None:
    with pytest.raises(KeyError):
        demo_school.right_answer("physics-01-q99")
