"""A data folder serves one stack at a time, keeps its secrets private, and its state readable."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from homeroom import state
from homeroom.data_directory import AlreadyRunningError, DataDirectory
from homeroom.ports import free_ports, is_free
from homeroom.secrets_file import SecretsFile
from homeroom.services import Address, Service, ServiceProcess
from homeroom.state import ProcessState, StackState

HOLD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from homeroom.data_directory import DataDirectory
with DataDirectory(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_stack_is_refused_and_told_whose_the_folder_is(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with data.held(), pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"), data.held():
        pytest.fail("two supervisors hold one folder")
    with data.held():
        pass


def test_two_commands_cannot_hold_one_process(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    with (
        data.holding(["session_service", "gateway"]),
        pytest.raises(AlreadyRunningError, match="session_service is being restored"),
        data.holding(["session_service"]),
    ):
        pytest.fail("two commands hold one process")
    with data.holding(["session_service"]):
        pass


async def test_a_process_on_hold_is_started_when_the_hold_ends(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path)
    service = ServiceProcess(
        Service("this", None, ()), address=Address(1, 2), environment=dict(os.environ), data=data
    )
    with data.holding(["this"]):
        starting = asyncio.create_task(service.start())
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not starting.done()
        assert not data.lock("this").exists()
    await starting
    assert await service.wait() == 0
    assert "The Zen of Python" in data.log("this").read_text()


async def test_a_killed_supervisor_leaves_no_lock(tmp_path: Path) -> None:
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLD_UNTIL_KILLED, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    assert await asyncio.wait_for(other.stdout.readline(), 30) == b"held\n"
    data = DataDirectory(tmp_path)
    with pytest.raises(AlreadyRunningError, match=f"process {other.pid}"), data.held():
        pytest.fail("two supervisors hold one folder")
    other.kill()
    await other.wait()
    with data.held():
        assert data.lock("supervisor").read_text() == f"{os.getpid()}\n"


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = SecretsFile(path)
    made = {name: first.get(name) for name in ("owner", "service")}
    assert len(set(made.values())) == 2
    assert {name: SecretsFile(path).get(name) for name in made} == made
    assert json.loads(path.read_text()) == made


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    SecretsFile(path).get("owner")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secrets.json"]


def test_the_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = StackState(
        supervisor_pid=1,
        gateway_url="http://127.0.0.1:8080",
        ready=True,
        processes=(
            ProcessState("gateway", 2, 8080, 8080, "2026-01-02T03:04:05+00:00", 0),
            ProcessState("postgres", None, None, None, None, 3),
        ),
    )
    state.write(tmp_path / "state.json", written)
    assert state.read(tmp_path / "state.json") == written
    assert written.process("postgres").restarts == 3
    with pytest.raises(KeyError):
        written.process("janitor")


def test_no_state_is_no_stack(tmp_path: Path) -> None:
    assert state.read(tmp_path / "state.json") is None


def test_free_ports_are_different_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not is_free(listener.getsockname()[1])
