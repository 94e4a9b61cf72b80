"""The promises of a start, which each system must keep before its speed is measured; the same for all."""

from __future__ import annotations

import asyncio

from bench.load.identity import Identity
from bench.load.requests import TEST_IDS
from homeroom.api import Answer, Api

LEARNERS = ("probe-one-key", "probe-tabs", "probe-limit")
"""They need accounts on the default plan, which allows 3 tests a day."""

AT_ONCE = 20
FIRST, SECOND, THIRD, FOURTH = TEST_IDS


class NotConformingError(RuntimeError):
    """The system gives a wrong answer; the message names the request."""


async def check_conformance(url: str, identity: Identity) -> None:
    """Raises NotConformingError at the first wrong answer; LEARNERS must not have started anything before."""
    for check, learner in ((_one_key, LEARNERS[0]), (_two_tabs, LEARNERS[1]), (_daily_limit, LEARNERS[2])):
        async with Api(url, identity.token(learner, "learner")) as api:
            await check(api)
    async with Api(url, identity.token("probe-unknown", "learner")) as api:
        _expect("a start without an account", await _start(api, FIRST, "k"), 400, "INVALID_USER_REFERENCE")
    async with Api(url, "not-a-token") as api:
        _expect("a start without a token", await _start(api, FIRST, "k"), 401)


async def _one_key(api: Api) -> None:
    answers = await asyncio.gather(*(_start(api, FIRST, "k") for _ in range(AT_ONCE)))
    for answer in answers:
        _expect(f"{AT_ONCE} starts at once with one key", answer, 201)
    if len({answer.body["sessionId"] for answer in answers}) != 1:
        raise NotConformingError("starts with one key made several sessions")
    if sum(not answer.replayed for answer in answers) != 1:
        raise NotConformingError("of the answers to one key, all but one must be marked as replays")
    other = await api.ask("POST", "/v1/sessions", {"testId": SECOND}, key="k")
    _expect("the same key with another body", other, 422)
    unknown = await api.ask("POST", "/v1/sessions", {"testId": FIRST, "colour": "red"}, key="k2")
    _expect("an unknown field", unknown, 400)
    _expect("no key", await api.ask("POST", "/v1/sessions", {"testId": FIRST}), 400)
    _expect("an unknown test", await _start(api, "bench-none", "k3"), 404)


async def _two_tabs(api: Api) -> None:
    answers = await asyncio.gather(*(_start(api, FIRST, f"k{number}") for number in range(AT_ONCE)))
    if sorted(answer.status for answer in answers) != [200] * (AT_ONCE - 1) + [201]:
        raise NotConformingError("starts of one test with many keys: one 201, the others 200")
    if len({answer.body["sessionId"] for answer in answers}) != 1:
        raise NotConformingError("starts of one test with many keys made several sessions")
    if sum(answer.body["resumed"] for answer in answers) != AT_ONCE - 1:
        raise NotConformingError("a start that finds its session under way must say that it resumed")


async def _daily_limit(api: Api) -> None:
    for number, test_id in enumerate((FIRST, SECOND, THIRD)):
        _expect("a start within the limit", await _start(api, test_id, f"k{number}"), 201)
    _expect("a start above the limit", await _start(api, FOURTH, "k3"), 429, "DAILY_LIMIT_REACHED")
    _expect("a replay at the limit", await _start(api, FIRST, "k0"), 201)


async def _start(api: Api, test_id: str, key: str) -> Answer:
    return await api.ask("POST", "/v1/sessions", {"testId": test_id}, key=key)


def _expect(what: str, answer: Answer, status: int, reason: str | None = None) -> None:
    if answer.status != status or (reason is not None and answer.body.get("reason") != reason):
        raise NotConformingError(
            f"{what}: {status} {reason or ''} expected, got {answer.status} {answer.body}"
        )
