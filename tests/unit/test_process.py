"""A process ends in order, within a time limit, with an exit code that says how.

Each test runs a process of its own and sends it real signals.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import chassis
from chassis.process.lifecycle import EXIT_CONFIGURATION, EXIT_CRASHED, Shutdown

ROOT = Path(chassis.__file__).resolve().parent.parent
SETUP = """
import asyncio, gc, os, signal, sys, threading, time
from chassis.telemetry import logs
from chassis.process.config import ConfigError
from chassis.process.lifecycle import StartError, run, tune_garbage_collection
logs.configure(service="test", version="1")
def say(text): print(text, flush=True)
async def saying(text): say(text)
"""


def start(
    code: str, *, run_with: str = "run(main)", environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{SETUP}{code}\n{run_with}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str], list[dict[str, object]], str]:
    """Exit code, plain lines, log lines, standard error."""
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    lines = output.splitlines()
    plain = [line for line in lines if not line.startswith("{")]
    return process.returncode, plain, [json.loads(line) for line in lines if line.startswith("{")], errors


def await_line(process: subprocess.Popen[str], expected: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == expected + "\n"


ORDERLY = """
async def main(shutdown):
    shutdown.at_request(lambda: say("drained"))
    shutdown.closing("database", lambda: saying("database closed"))
    shutdown.closing("server", lambda: saying("server closed"))
    tune_garbage_collection()
    say("up")
    await shutdown.wait()
    say("main returned")
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order(sent: signal.Signals) -> None:
    process = start(ORDERLY)
    await_line(process, "up")
    process.send_signal(sent)
    code, plain, logged, errors = finish(process)
    assert (code, errors) == (0, "")
    assert plain == ["drained", "main returned", "server closed", "database closed"]
    assert [(line["event"], line["reason"]) for line in logged] == [("stopping", sent.name)]


def test_further_signals_do_not_disturb_the_end() -> None:
    process = start("""
async def close():
    say("closing")
    while not signal_seen.is_set():
        await asyncio.sleep(0.005)
    say("closed")
signal_seen = asyncio.Event()
async def main(shutdown):
    signal.signal(signal.SIGUSR1, lambda *_: signal_seen.set())
    shutdown.closing("slow", close, timeout_seconds=30)
    say("up")
    await shutdown.wait()
""")
    await_line(process, "up")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "stopping"
    await_line(process, "closing")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR1)
    code, plain, logged, errors = finish(process)
    assert (code, plain, logged, errors) == (0, ["closed"], [], "")


def test_a_process_whose_main_returns_closes_and_ends_well() -> None:
    code, plain, _, _ = finish(
        start("""
async def main(shutdown):
    shutdown.closing("database", lambda: saying("closed"))
""")
    )
    assert (code, plain) == (0, ["closed"])


def test_only_the_first_request_to_end_is_logged() -> None:
    code, _, logged, _ = finish(
        start("""
async def main(shutdown):
    shutdown.request("the relay is gone")
    shutdown.request("too late")
    await shutdown.wait()
""")
    )
    assert code == 0
    assert [line["reason"] for line in logged] == ["the relay is gone"]


def test_a_crash_is_logged_and_what_was_opened_is_closed() -> None:
    code, plain, logged, errors = finish(
        start("""
async def main(shutdown):
    shutdown.closing("database", lambda: saying("closed"))
    raise LookupError("no such thing")
""")
    )
    assert (code, plain, errors) == (EXIT_CRASHED, ["closed"], "")
    assert logged[0]["event"] == "crashed"
    assert "LookupError: no such thing" in str(logged[0]["exception"])


def test_a_wrong_configuration_is_explained_as_text() -> None:
    code, plain, _, errors = finish(
        start("""
async def main(shutdown):
    shutdown.closing("database", lambda: saying("closed"))
    raise ConfigError(["HOMEROOM_BIND is missing: set it"])
""")
    )
    assert (code, plain) == (EXIT_CONFIGURATION, ["closed"])
    assert errors == "Homeroom cannot start:\n  - HOMEROOM_BIND is missing: set it\n"


def test_a_closing_that_fails_or_hangs_does_not_keep_the_others_from_closing() -> None:
    code, plain, logged, _ = finish(
        start("""
async def fail(): raise OSError("cannot")
async def hang(): await asyncio.Event().wait()
async def main(shutdown):
    shutdown.closing("last", lambda: saying("last closed"))
    shutdown.closing("failing", fail)
    shutdown.closing("hanging", hang, timeout_seconds=0.05)
    shutdown.at_request(lambda: 1 / 0)
""")
    )
    assert (code, plain) == (0, ["last closed"])
    assert [(line["event"], line.get("closing")) for line in logged] == [
        ("stopping", None),
        ("stop_step_failed", None),
        ("closing_timed_out", "hanging"),
        ("closing_failed", "failing"),
    ]


def test_a_main_that_ignores_the_request_is_cancelled() -> None:
    process = start(
        """
async def main(shutdown):
    shutdown.closing("database", lambda: saying("closed"))
    say("up")
    try:
        await asyncio.Event().wait()
    finally:
        say("cancelled")
""",
        run_with="run(main, grace_seconds=2)",
    )
    await_line(process, "up")
    process.terminate()
    code, plain, logged, _ = finish(process)
    assert (code, plain) == (EXIT_CRASHED, ["cancelled", "closed"])
    assert "main_not_returned_in_time" in [line["event"] for line in logged]


@pytest.mark.parametrize(
    "stuck",
    [
        "time.sleep(600)",
        "await shutdown.wait(); time.sleep(600)",
    ],
)
def test_a_process_that_is_stuck_ends_by_force_and_shows_where(stuck: str) -> None:
    process = start(
        f"""
async def main(shutdown):
    asyncio.get_running_loop().call_soon(lambda: say("up"))
    await asyncio.sleep(0)
    shutdown.request("test")
    {stuck}
""",
        run_with="run(main, grace_seconds=1)",
    )
    code, _, _, errors = finish(process)
    assert code == EXIT_CRASHED
    assert "Timeout (0:00:01)!" in errors
    assert "<string>" in errors


def test_a_signal_during_start_up_is_not_lost() -> None:
    process = start("""
async def main(shutdown):
    say("starting")
    while not shutdown.requested:
        await asyncio.sleep(0.005)
    shutdown.at_request(lambda: say("drained"))
    await shutdown.wait()
    say("stopped")
""")
    await_line(process, "starting")
    process.terminate()
    code, plain, _, _ = finish(process)
    assert (code, plain) == (0, ["drained", "stopped"])


def test_an_unretrieved_error_of_a_task_is_logged() -> None:
    code, _, logged, errors = finish(
        start("""
async def fail(): raise OSError("unseen")
async def main(shutdown):
    task = asyncio.create_task(fail(), name="worker")
    await asyncio.wait({task})
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
""")
    )
    assert (code, errors) == (0, "")
    unhandled = [line for line in logged if line["event"] == "event_loop_error_unhandled"]
    assert [line["task"] for line in unhandled] == ["worker", None]
    assert "OSError: unseen" in str(unhandled[0]["exception"])
    assert "ZeroDivisionError" in str(unhandled[1]["exception"])


def test_objects_of_the_start_are_excluded_from_garbage_collection() -> None:
    _, plain, _, _ = finish(
        start("""
async def main(shutdown):
    tune_garbage_collection()
    say(f"{gc.get_freeze_count() > 10_000} {gc.isenabled()} {gc.get_threshold()}")
    class Node: pass
    made = Node(); made.itself = made
    import weakref
    gone = weakref.ref(made)
    del made
    gc.collect()
    say(gone() is None)
""")
    )
    assert plain == ["True True (10000, 10, 10)", "True"]


SLOW_RESOLVER = """
#include <netdb.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    for (;;) sleep(600);
}
"""


@pytest.fixture
def slow_resolver(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose resolver never answers."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a resolver that never answers")
    (tmp_path / "resolver.c").write_text(SLOW_RESOLVER)
    library = tmp_path / "resolver.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "resolver.c")], check=True
    )
    return {"LD_PRELOAD": str(library)}


def test_a_resolver_that_does_not_answer_does_not_keep_the_process(slow_resolver: dict[str, str]) -> None:
    process = start(
        """
async def main(shutdown):
    shutdown.closing("database", lambda: saying("closed"))
    looking = asyncio.create_task(asyncio.get_running_loop().getaddrinfo("db.test", 5432))
    asyncio.get_running_loop().call_later(0.05, lambda: say("up"))
    await shutdown.wait()
""",
        run_with="run(main, grace_seconds=10)",
        environment=slow_resolver,
    )
    await_line(process, "up")
    process.terminate()
    code, plain, _, errors = finish(process)
    assert (code, plain, errors) == (0, ["closed"], "")


def test_a_thread_that_is_stuck_does_not_keep_the_process() -> None:
    process = start(
        """
async def main(shutdown):
    stuck = asyncio.create_task(asyncio.to_thread(threading.Event().wait))
    asyncio.get_running_loop().call_soon(lambda: say("up"))
    await shutdown.wait()
""",
        run_with="run(main, grace_seconds=10)",
    )
    await_line(process, "up")
    process.terminate()
    code, _, _, errors = finish(process)
    assert (code, errors) == (0, "")


def test_a_task_that_no_closing_ends_is_cancelled_and_cleans_up() -> None:
    code, plain, _, _ = finish(
        start("""
async def work():
    try:
        await asyncio.Event().wait()
    finally:
        say("cleaned up")
async def main(shutdown):
    shutdown.task = asyncio.create_task(work())
    shutdown.closing("database", lambda: saying("closed"))
    await asyncio.sleep(0)
""")
    )
    assert (code, plain) == (0, ["closed", "cleaned up"])


def test_a_start_error_is_one_log_line() -> None:
    code, plain, logged, errors = finish(
        start("""
async def main(shutdown):
    shutdown.closing("tracing", lambda: saying("closed"))
    raise StartError("cannot connect to the database")
""")
    )
    assert (code, plain, errors) == (EXIT_CRASHED, ["closed"], "")
    (line,) = [line for line in logged if line["event"] != "stopping"]
    assert (line["event"], line["problem"]) == ("start_failed", "cannot connect to the database")
    assert "exception" not in line


def test_a_start_that_is_interrupted_by_a_signal_ends_well() -> None:
    process = start("""
async def main(shutdown):
    say("starting")
    await shutdown.wait()
    raise StartError("cannot connect to the database")
""")
    await_line(process, "starting")
    process.terminate()
    code, _, logged, errors = finish(process)
    assert (code, errors) == (0, "")
    assert [line["event"] for line in logged] == ["stopping"]


UNCONFIGURED = """
import sys
from chassis.process.config import ConfigError
from chassis.process.lifecycle import run
async def main(shutdown):
    raise ConfigError(["HOMEROOM_BIND is missing: set it", "HOMEROOM_MODE is wrong"])
run(main, name="gateway")
"""


def test_a_refused_configuration_is_a_log_line_too_before_any_log_is_configured() -> None:
    process = subprocess.run(
        [sys.executable, "-c", UNCONFIGURED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == EXIT_CONFIGURATION
    (line,) = [json.loads(text) for text in process.stdout.splitlines()]
    assert (line["event"], line["service"], line["level"]) == ("configuration_refused", "gateway", "critical")
    assert line["problems"] == ["HOMEROOM_BIND is missing: set it", "HOMEROOM_MODE is wrong"]
    assert "HOMEROOM_BIND is missing: set it" in process.stderr


def test_a_refused_configuration_is_plain_text_on_a_terminal() -> None:
    terminal, other_end = pty.openpty()
    try:
        process = subprocess.run(
            [sys.executable, "-c", UNCONFIGURED],
            cwd=ROOT,
            stdout=other_end,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.set_blocking(terminal, False)
        with pytest.raises(BlockingIOError):
            os.read(terminal, 1)  # nothing was written there
    finally:
        os.close(terminal)
        os.close(other_end)
    assert process.returncode == EXIT_CONFIGURATION
    assert process.stderr.startswith("Homeroom cannot start:")


def test_the_process_may_open_as_many_files_as_the_system_allows() -> None:
    _, plain, _, _ = finish(
        start("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
async def main(shutdown):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    say(soft == hard)
""")
    )
    assert plain == ["True"]


async def test_waiting_ends_when_the_end_is_requested() -> None:
    shutdown = Shutdown()
    waiting = asyncio.create_task(shutdown.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not shutdown.requested
    shutdown.request("test")
    await asyncio.wait_for(waiting, 10)
    assert shutdown.requested
