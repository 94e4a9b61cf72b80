"""schemathesis plays `/openapi.json` against a whole stack: no answer breaks the document or is a 5xx."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.contract import public_methods
from gateway.documents.operations import path_of
from gateway.routes import routes_of
from homeroom.supervisor import Stack
from tests.support.http_client import HttpClient

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# The example values of the document name these, so that examples meet what is there.
LEARNER, TEST, PLAN = "ada", "physics-01", "free"
STREAMS = sorted(
    path_of(route)
    for route in routes_of(public_methods(), ("session", "subscription", "progress"))
    if route.events is not None
)


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="homeroom-contract-"))
    async with Stack(data_dir=folder / "data", port=0, ephemeral=True) as running:
        await running.wait_ready()
        await prepare(running)
        yield running
        assert not any((await running.internal_errors()).values())
    shutil.rmtree(folder)


async def prepare(stack: Stack) -> None:
    admin = HttpClient(base_url=stack.gateway_url, token=stack.token)

    async def put(method: str, path: str, body: dict) -> None:
        answer = await admin.send(method, path, user="grace", roles=["admin"], json=body)
        assert answer.status == 200, answer.text

    for user in (LEARNER, "grace", "ivan"):
        account = {"email": f"{user}@example.org", "displayName": user, "emailVerified": True}
        await put("PUT", f"/v1/accounts/{user}", account)
    await put("PUT", f"/v1/tests/{TEST}", {"title": "Physics", "kind": "PRACTICE", "questionCount": 1})
    question = {"questionId": "q1", "prompt": "g?", "accepted": ["9.81"]}
    await put("POST", f"/v1/tests/{TEST}/questions:import", {"questions": [question]})
    await admin.close()


async def play(stack: Stack, *, examples: int, phases: str) -> None:
    """Runs schemathesis as its command line does, with all of its checks and ours."""
    tokens = {
        "learner": stack.token(LEARNER, ["learner"]),
        "instructor": stack.token("ivan", ["instructor"]),
        "admin": stack.token("grace", ["admin"]),
    }
    command = [
        *("--config-file", str(HERE / "schemathesis.toml"), "run", "--checks", "all"),
        # hooks.py has one of its own that also knows proto3 JSON.
        *("--exclude-checks", "negative_data_rejection"),
        # A stream has no end that schemathesis would wait for; tests/gateway/streams/ plays them.
        *(word for path in STREAMS for word in ("--exclude-path", path)),
        *("--phases", phases, "--max-examples", str(examples)),
        *("--continue-on-failure", "--no-color", "--workers", "1"),
        f"{stack.gateway_url}/openapi.json",
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.contract.hooks",
        "TOKENS": json.dumps(tokens),
        "PYTHONPATH": str(ROOT),
    }
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("schemathesis")), *command),
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    told = "\n".join(line[:500] for line in output.decode().splitlines())
    assert process.returncode == 0, told[-20_000:]


async def test_no_answer_breaks_the_document(stack: Stack) -> None:
    await play(stack, examples=3, phases="examples,coverage,fuzzing,stateful")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_no_answer_breaks_the_document_in_many_more_examples(stack: Stack) -> None:
    await play(stack, examples=300, phases="examples,coverage,fuzzing,stateful")
