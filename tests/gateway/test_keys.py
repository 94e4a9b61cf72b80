"""`Idempotency-Key`: when it is needed, what it may be, and what a replay looks like."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.batch import Reply
from chassis.errors import ServiceError
from gateway.keys import idempotency_key
from protos.session.v1 import sessions_pb2
from tests.gateway.backend import Backend
from tests.gateway.running import Answer, Gateway
from tests.gateway.test_authorization import PUBLIC, Declared, example


async def start(gateway: Gateway, key: str | None) -> Answer:
    return await gateway.request("POST", "/v1/sessions", body={"testId": "t"}, key=key)


@pytest.mark.parametrize("route", PUBLIC, ids=str)
async def test_exactly_the_keyed_mutations_need_a_key(
    gateway: Gateway, backend: Backend, route: Declared
) -> None:
    token = gateway.identity.token("ada", tuple(route.roles))
    body: Any = None if route.verb == "GET" else {}
    answer = await gateway.request(route.verb, example(route.path), token=token, body=body, key=None)
    missing = answer.status == 400 and answer.reason == "IDEMPOTENCY_KEY_MISSING"
    assert missing == route.key_required
    assert not (missing and backend.items)


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("k1", "k1"),
        ('"k1"', "k1"),
        ("!", "!"),
        ("a" * 255, "a" * 255),
        ('"' + "a" * 255 + '"', "a" * 255),
        (r'"a\"b\\c"', 'a"b\\c'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('a"b', 'a"b'),
        ("~!@#$%^&*()_+`-={}|[]:;'<>?,./", "~!@#$%^&*()_+`-={}|[]:;'<>?,./"),
    ],
)
async def test_a_key_is_the_same_in_quotes_and_bare(
    gateway: Gateway, backend: Backend, sent: str, meant: str
) -> None:
    assert (await start(gateway, sent)).status == 201
    assert backend.only_item.context.idempotency_key == meant


@pytest.mark.parametrize(
    "sent",
    ["", '""', '"', '"k1', '"k1"x', '"k1";a=1', '"k"1"', r'"k\1"', "a b", '"a b"', "é", '"é"', "a\tb"]  # noqa: RUF005 — a list of short ones, then of long ones
    + ["a" * 256, '"' + "a" * 256 + '"', "a" * 4000],
    ids=lambda sent: sent[:12],
)
async def test_a_bad_key_is_refused_naming_the_header(gateway: Gateway, backend: Backend, sent: str) -> None:
    answer = await start(gateway, sent)
    assert set(answer.fields) == {"Idempotency-Key"}
    assert not backend.items


def test_a_key_may_be_given_once() -> None:
    with pytest.raises(ServiceError, match="given once"):
        idempotency_key(["k1", "k1"])


async def test_a_key_goes_no_further_than_where_one_is_needed(gateway: Gateway, backend: Backend) -> None:
    await gateway.request("GET", "/v1/stats", key="not even valid")
    assert backend.only_item.context.idempotency_key == ""


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("replayed", [False, True])
async def test_a_new_session_is_201_a_resumed_one_200_and_a_replay_says_so(
    gateway: Gateway, backend: Backend, resumed: bool, replayed: bool
) -> None:
    session = sessions_pb2.Session(session_id="s1", resumed=resumed, test_id="t")
    backend.answers["CreateSession"] = lambda _item: Reply(
        sessions_pb2.CreateSessionResponse(session=session), replayed=replayed
    )
    answer = await start(gateway, "k1")
    assert answer.status == (200 if resumed else 201)
    assert answer.headers.get("Idempotent-Replayed") == ("true" if replayed else None)
    told = answer.json()
    assert (told["sessionId"], told["resumed"], told["questions"]) == ("s1", resumed, [])
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_method_that_creates_nothing_answers_200(gateway: Gateway, backend: Backend) -> None:
    assert (await gateway.request("GET", "/v1/sessions/s1")).status == 200
    assert (await gateway.request("POST", "/v1/sessions/s1:complete")).status == 200
    assert len(backend.items) == 2
