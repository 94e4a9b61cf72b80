"""`homeroom up` from an empty folder: ready, stopped, killed, started again, and two side by side."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from homeroom import probe
from homeroom.api import Api
from homeroom.embedded.postgres import Cluster
from homeroom.keys import DevelopmentKeys
from tests.support.command_line import NAMES, Up, run, start, up
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that does not exist yet."""
    parent = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Up]:
    """A running stack for the tests that only look at it, or kill what is started again."""
    parent = Path(tempfile.mkdtemp(prefix="homeroom-tests-"))
    try:
        async with up("--data", str(parent / "data")) as running:
            yield running
    finally:
        shutil.rmtree(parent)


def learner(running: Up, user: str = "ada") -> Api:
    return Api(running.url, DevelopmentKeys(running.data.keys).token(user))


async def start_a_session(running: Up, key: str) -> dict[str, Any]:
    async with learner(running) as api:
        return await api.want("POST", "/v1/sessions", {"testId": "physics-01"}, key=key)


async def status(running: Up) -> tuple[int, dict[str, Any]]:
    finished = await run("status", "--json", "--data", str(running.data.root))
    return finished.code, finished.json


async def test_the_printed_curl_starts_a_session(stack: Up) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    words = shlex.split(stack.curl)
    curl = await asyncio.create_subprocess_exec(
        *(words[0], "--silent", "--show-error", "--fail-with-body", *words[1:]),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(curl.communicate(), 30)
    session = json.loads(output)
    assert curl.returncode == 0, session
    assert session["testId"] == "physics-01"
    assert session["state"] == "ACTIVE"
    assert len(session["questions"]) == 5


async def test_status_shows_each_process_and_that_it_is_well(stack: Up) -> None:
    code, report = await status(stack)
    assert code == 0
    assert report["healthy"]
    assert report["gateway_url"] == stack.url
    processes = {process["name"]: process for process in report["processes"]}
    assert set(processes) <= set(NAMES)
    assert set(processes) >= set(NAMES) - {"redis"}
    for name, process in processes.items():
        assert process["healthy"], name
        os.kill(process["pid"], 0)
        assert process["restarts"] == stack.state.process(name).restarts
        assert (process["version"] is not None) == (process["port"] is not None)


async def test_status_for_a_person_names_each_process(stack: Up) -> None:
    finished = await run("status", "--data", str(stack.data.root))
    assert finished.code == 0
    for name in set(NAMES) - {"redis"}:
        assert name in finished.stdout


async def test_metrics_and_version_are_shown_to_operators_only(stack: Up) -> None:
    for process in stack.state.processes:
        if process.port is None or process.ops_port is None:
            continue  # PostgreSQL and Redis are not ours
        for path in ("/livez", "/readyz", "/version", "/metrics"):
            page = await probe.get(process.ops_port, path)
            assert page is not None, (process.name, path)
            assert page.status == 200, (process.name, path)
    gateway = stack.state.process("gateway").port
    assert gateway is not None
    for path, status in (("/livez", 200), ("/readyz", 200), ("/version", 404), ("/metrics", 404)):
        page = await probe.get(gateway, path)
        assert page is not None, path
        assert page.status == status, path


async def test_a_token_from_the_command_is_accepted(stack: Up) -> None:
    printed = await run("token", "--user", "ada", "--role", "learner", "--data", str(stack.data.root))
    async with Api(stack.url, printed.stdout.strip()) as api:
        assert (await api.want("GET", "/v1/accounts/me"))["userId"] == "ada"


async def test_seeding_again_changes_nothing(stack: Up) -> None:
    async with learner(stack) as api:
        before = await api.want("GET", "/v1/tests/physics-01"), await api.want("GET", "/v1/accounts/me")
        finished = await run("seed", "--data", str(stack.data.root))
        assert finished.code == 0, finished.stderr
        after = await api.want("GET", "/v1/tests/physics-01"), await api.want("GET", "/v1/accounts/me")
    assert after[0] == before[0]
    assert {**after[1], "updatedAt": ""} == {**before[1], "updatedAt": ""}


async def test_a_second_stack_on_the_same_folder_is_refused(stack: Up) -> None:
    second = await run("up", "--port", "0", "--data", str(stack.data.root))
    assert second.code == 1
    assert f"process {stack.process.pid}" in second.stderr
    code, _ = await status(stack)
    assert code == 0


async def test_a_taken_port_is_named_before_anything_starts(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = await run("up", "--port", str(port), "--data", str(data))
    assert refused.code == 1
    assert f"port {port} is taken" in refused.stderr
    assert not (data / "postgres").exists()


async def test_production_mode_is_refused_before_anything_starts(data: Path) -> None:
    refused = await run("up", "--port", "0", "--data", str(data), mode="production")
    assert refused.code == 1
    assert "production mode" in refused.stderr
    assert not (data / "keys").exists()
    assert not (data / "postgres").exists()


async def test_a_killed_service_comes_back_while_the_others_serve(stack: Up) -> None:
    before = stack.state.process("session_service")
    others = {
        name: stack.pid(name) for name in NAMES if name in {"gateway", "subscription_service", "postgres"}
    }
    assert before.pid is not None

    os.kill(before.pid, signal.SIGKILL)

    async with asyncio.timeout(60), learner(stack) as api:
        while (now := stack.state.process("session_service")).restarts == before.restarts or now.pid is None:
            assert (await api.want("GET", "/v1/entitlements"))["userId"] == "ada"
    assert now.pid != before.pid
    assert now.port == before.port

    async def healthy_again() -> bool:
        return (await status(stack))[0] == 0

    await eventually(healthy_again, seconds=60)
    assert {name: stack.pid(name) for name in others} == others
    await start_a_session(stack, "after-the-kill")


async def test_a_killed_postgres_comes_back_with_what_was_committed(stack: Up) -> None:
    session = await start_a_session(stack, "before-the-crash")
    pid = stack.pid("postgres")
    os.kill(pid, signal.SIGKILL)

    async def healthy_again() -> bool:
        restarted = stack.state.process("postgres").pid not in {None, pid}
        return restarted and (await status(stack))[0] == 0

    await eventually(healthy_again, seconds=60)
    async with learner(stack) as api:
        found = await api.want("GET", f"/v1/sessions/{session['sessionId']}")
    assert found["sessionId"] == session["sessionId"]


async def test_the_demo_shows_what_it_says(stack: Up) -> None:
    finished = await run("demo", "--data", str(stack.data.root))
    assert finished.code == 0, finished.stdout + finished.stderr
    assert "Everything held." in finished.stdout


async def test_ctrl_c_leaves_no_process_and_no_lock_and_the_next_start_finds_the_data(data: Path) -> None:
    async with up("--data", str(data)) as first:
        session = await start_a_session(first, "kept")
        pids = [process.pid for process in first.state.processes]
        sockets = Cluster(
            first.data.postgres, password="-", run=first.data.run, log=data / "-"
        ).socket_directory
        assert sockets.exists()
        assert await first.stop(signal.SIGINT) == 0
        assert first.still_running() == []
        assert not first.data.state.exists()
        assert not sockets.exists()
        for pid in pids:
            assert pid is not None
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    nothing = await run("status", "--json", "--data", str(data))
    assert nothing.code == 1
    assert nothing.json == {"running": False, "healthy": False, "processes": []}
    async with up("--data", str(data)) as second:
        again = await start_a_session(second, "kept")
        assert again["sessionId"] == session["sessionId"]
        assert await second.stop(signal.SIGTERM) == 0
        assert second.still_running() == []


async def test_a_killed_supervisor_leaves_nothing_that_stops_the_next_start(data: Path) -> None:
    async with up("--data", str(data)) as first:
        session = await start_a_session(first, "kept")
        await first.kill()
        async with up("--data", str(data)) as second:
            assert (await start_a_session(second, "kept"))["sessionId"] == session["sessionId"]
            code, report = await status(second)
            assert code == 0
            assert {process["restarts"] for process in report["processes"]} == {0}
            assert await second.stop() == 0
            assert second.still_running() == []


async def test_a_stop_in_the_middle_of_starting_leaves_nothing(data: Path) -> None:
    process = await start("up", "--port", "0", "--data", str(data))

    async def postgres_started() -> bool:
        return (data / "run" / "postgres.lock").exists()

    await eventually(postgres_started, seconds=60)
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, errors.decode()
    assert b"ready in" not in output
    gone = Up(process, {"gateway_url": "", "try": "", "data": str(data)})
    assert gone.still_running() == []


async def test_two_stacks_run_side_by_side_and_know_nothing_of_each_other(stack: Up, data: Path) -> None:
    async with up("--data", str(data), "--no-redis", "--ephemeral") as other:
        assert other.url != stack.url
        session = await start_a_session(other, "same-key")
        assert (await start_a_session(stack, "same-key"))["sessionId"] != session["sessionId"]
        async with Api(other.url, DevelopmentKeys(stack.data.keys).token("ada")) as stranger:
            assert (await stranger.ask("GET", "/v1/accounts/me")).status == 401
        assert "redis" not in {process.name for process in other.state.processes}
        other.process.send_signal(signal.SIGINT)  # twice: the second one kills the processes
        assert await other.stop() == 0
    assert not data.exists()
    assert (await status(stack))[0] == 0


async def test_an_ephemeral_stack_never_throws_away_what_was_there_before(data: Path) -> None:
    data.mkdir()
    (data / "thesis.txt").write_text("ten years of work")
    refused = await run("up", "--ephemeral", "--port", "0", "--data", str(data))
    assert refused.code == 1
    assert "already holds something" in refused.stderr
    assert (data / "thesis.txt").exists()


async def test_commands_for_a_running_stack_say_when_there_is_none(data: Path) -> None:
    for command in ("status", "seed", "demo"):
        finished = await run(command, "--data", str(data))
        assert finished.code == 1
        assert "no stack runs" in finished.stderr
