"""Every line on standard output is one JSON object that says who, for which request, and no secrets.

Logging is configured for a whole process, so each test looks at what a process of its own writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import chassis

ROOT = Path(chassis.__file__).resolve().parent.parent
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SETUP = """
import asyncio, dataclasses, datetime, logging, os, sys, threading, uuid, warnings
import structlog
from chassis.telemetry import logs
from chassis.process.config import Secret
from chassis.telemetry.logs import LogLevel
early = structlog.get_logger("early")
logs.configure(service="gateway", version="1.2.3", level=LogLevel.{level}, hash_secret="shared")
log = logs.get_logger("here")
"""


def run_python(code: str, *, level: str = "INFO") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SETUP.format(level=level) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lines_of(code: str, *, level: str = "INFO") -> list[dict[str, Any]]:
    finished = run_python(code, level=level)
    assert (finished.returncode, finished.stderr) == (0, "")
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_a_line_has_event_logger_time_and_service() -> None:
    [line] = lines_of("log.info('started', port=8080)")
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("pid") > 1
    assert line == {
        "event": "started",
        "level": "info",
        "logger": "here",
        "port": 8080,
        "service": "gateway",
        "version": "1.2.3",
    }


def test_lines_below_the_level_are_not_written() -> None:
    code = "log.debug('a'); log.info('b'); log.warning('c'); logging.info('d'); logging.error('e')"
    assert [line["event"] for line in lines_of(code, level="WARNING")] == ["c", "e"]
    assert [line["event"] for line in lines_of(code, level="DEBUG")] == ["a", "b", "c", "d", "e"]


def test_a_logger_made_before_the_configuration_obeys_it() -> None:
    [line] = lines_of("early.warning('x')", level="WARNING")
    assert (line["logger"], line["service"]) == ("early", "gateway")


def test_request_and_trace_ids_are_on_every_line_of_the_request_and_on_no_other() -> None:
    lines = lines_of(f"""
async def request(number, traceparent):
    token = logs.bind_request(f"r{{number}}", traceparent)
    await asyncio.sleep(0)
    log.info("inside")
    logging.getLogger("library").warning("inside a library")
    logs.unbind_request(token)
    log.info("after")
async def main():
    await asyncio.gather(request(1, "{TRACEPARENT}"), request(2, ""))
asyncio.run(main())
""")
    ids = {(line["event"], line.get("request_id"), line.get("trace_id")) for line in lines}
    trace_id = TRACEPARENT.split("-")[1]
    assert ids == {
        ("inside", "r1", trace_id),
        ("inside a library", "r1", trace_id),
        ("inside", "r2", None),
        ("inside a library", "r2", None),
        ("after", None, None),
    }


def test_secrets_are_not_written_also_in_tracebacks_and_by_libraries() -> None:
    finished = run_python("""
@dataclasses.dataclass
class Options:
    dsn: str = "postgresql://app:hunter2@db/x"
log.info("connecting to postgresql://app:hunter2@db/x", options=Options(), password="hunter2",
         secret=Secret("hunter2"), headers={"authorization": "hunter2"})
logging.getLogger("asyncpg").warning("cannot reach %s", "postgresql://app:hunter2@db/x")
try:
    raise OSError("no route to redis://:hunter2@cache")
except OSError:
    log.exception("failed")
    logging.getLogger("library").exception("failed too")
""")
    assert finished.stderr == ""
    assert len(finished.stdout.splitlines()) == 4
    assert "hunter2" not in finished.stdout
    assert finished.stdout.count("no route to redis://:***@cache") == 2


def test_an_idempotency_key_is_written_as_the_hash_that_other_processes_write() -> None:
    [line] = lines_of("log.info('replayed', idempotency_key='order-17', same=logs.hashed('order-17'))")
    assert line["idempotency_key"] == line["same"]
    assert line["same"] != "order-17"


def test_the_standard_library_and_warnings_end_in_the_same_lines() -> None:
    lines = lines_of("""
logging.getLogger("aiohttp.server").error("bad %s", "request")
warnings.warn("old ways")
""")
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("aiohttp.server", "error"),
        ("py.warnings", "warning"),
    ]
    assert lines[0]["event"] == "bad request"
    assert "old ways" in lines[1]["event"]


def test_unimportant_lines_of_libraries_are_not_written() -> None:
    assert lines_of("logging.getLogger('asyncio').info('Using selector')", level="INFO") == []


def test_values_without_a_json_form_do_not_lose_the_line() -> None:
    lines = lines_of("""
class Broken:
    def __repr__(self): raise ValueError
log.info("values", when=datetime.date(2024, 2, 29), id=uuid.UUID(int=1), broken=Broken(), kinds={1, 2},
         raw=b"\\xff", names={5: "five"})
log.info("huge", number=1 << 80)
log.info("surrogate \\ud800")
log.info("two\\nlines")
""")
    assert lines[0]["when"] == "2024-02-29"
    assert lines[0]["id"] == "00000000-0000-0000-0000-000000000001"
    assert lines[0]["broken"] == "<unprintable Broken>"
    assert lines[0]["kinds"] == [1, 2]
    assert lines[0]["names"] == {"5": "five"}
    assert lines[1]["number"] == 1 << 80
    assert lines[2]["event"] == "surrogate ?"  # strict readers of JSON refuse the escape of half a pair
    assert lines[3]["event"] == "two\nlines"


def test_a_reader_that_went_away_does_not_stop_the_work() -> None:
    finished = run_python("""
reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(reader); os.close(writer)
for _ in range(3):
    log.info("into the void", padding="x" * 100_000)
    logging.error("into the void")
sys.stderr.write("worked on")
sys.stderr.flush()
os._exit(0)
""")
    assert (finished.returncode, finished.stderr) == (0, "worked on")


def test_a_crash_is_logged_with_its_traceback() -> None:
    finished = run_python("""
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start(); thread.join()
raise LookupError("the end")
""")
    assert (finished.returncode, finished.stderr) == (1, "")
    in_thread, at_end = (json.loads(line) for line in finished.stdout.splitlines())
    assert (in_thread["event"], in_thread["thread"], in_thread["level"]) == (
        "thread_crashed",
        "worker",
        "critical",
    )
    assert "ZeroDivisionError" in in_thread["exception"]
    assert at_end["event"] == "crashed"
    assert "LookupError: the end" in at_end["exception"]
