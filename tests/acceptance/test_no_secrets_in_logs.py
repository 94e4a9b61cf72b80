"""Tokens and keys stay out of the logs and the spans, whatever a client does with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chassis import failpoints
from tests.support.http_client import HttpClient, unique
from tests.support.waiting import eventually

SAMPLED = "00-{:032x}-00f067aa0ba902b7-01"


async def raw(stack, text: str) -> None:
    address = urlsplit(stack.gateway_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(text.encode())
    await writer.drain()
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()


def written(stack) -> str:
    """All logs of the stack, and its spans."""
    logs = sorted(Path(stack.data_dir).rglob("*.log*"))
    assert len(logs) >= 5
    return "".join(path.read_text(errors="replace") for path in [*logs, stack.spans])


@pytest.mark.fault
async def test_no_token_and_no_key_is_written_anywhere(stack, http: HttpClient):
    learner, test = unique("learner"), unique("test")
    await http.put_account(learner)
    await http.put_test(test, questions=1)
    token = stack.token(learner)
    foreign = token[:-20] + "A" * 20
    giant = "Z" * 9_000
    keys = [f"secret-key-{number}-{unique('k')}" for number in range(6)]
    traced = {"traceparent": SAMPLED.format(0xABCDEF)}

    first = await http.start(learner, test, key=keys[0], headers=traced)
    await http.start(learner, test, key=keys[0], headers=traced)
    await http.send("POST", "/v1/sessions", user=learner, key=keys[0], json={"testId": "x"}, headers=traced)
    await http.send("POST", "/v1/sessions", user=learner, key=keys[1], data=b"{", headers=traced)
    await http.send("POST", "/v1/sessions", user=learner, key=keys[2] + " é", json={}, headers=traced)
    # An error, and a request that runs out of time: both are logged.
    failpoints.arm(stack.failpoints, "session.after_holds_placed", "pause 2")
    other = unique("test")
    await http.put_test(other, questions=1)
    late = await http.start(learner, other, key=keys[3], headers={**traced, "Request-Timeout": "1"})
    assert late.status in {503, 504}
    session = first.body["sessionId"]
    await http.send("POST", f"/v1/sessions/{session}:complete", user=learner, key=keys[4], json={})
    # Odd ways to send a token.
    for sent in (foreign, token + "x", giant):
        head = f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {sent}\r\n"
        await raw(stack, f"{head}traceparent: {traced['traceparent']}\r\n\r\n")
    await raw(stack, f"GET /v1/stats?access_token={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await raw(stack, f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {token}\r\n\r\n")
    await raw(stack, f"Bearer {token}\r\n\r\n")
    line = f"Authorization: Bearer {token}\r\n"
    await raw(stack, f"GET /v1/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}{line}\r\n")
    body = f'{{"token": "{token}"}}'
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    await raw(
        stack, f"{head}{line}Content-Type: application/json\r\nIdempotency-Key: {keys[5]}\r\n\r\n{body}"
    )

    await eventually(lambda: f"{0xABCDEF:032x}" in written(stack))
    text = written(stack)
    signature = token.rpartition(".")[2]
    payload = token.split(".")[1]
    for name, secret in {
        "signature": signature,
        "payload": payload,
        "foreign token": foreign[-60:],
        "giant token": giant[:50],
        **{f"key {number}": key for number, key in enumerate(keys)},
    }.items():
        assert secret not in text, f"the {name} was written"
