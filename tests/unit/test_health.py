"""Readiness says what is missing, quickly and without asking too often; the pages are served over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from chassis.process import version
from chassis.telemetry.health import Health, NotReadyError, OpsPages, OpsServer, Page
from chassis.telemetry.metrics import CONTENT_TYPE, Metrics


async def passes() -> None:
    pass


def pages_of(health: Health) -> OpsPages:
    return OpsPages(service="gateway", version="1.2.3", health=health, metrics=Metrics(service="gateway"))


def read(page: Page) -> tuple[int, str, dict[str, str]]:
    body = orjson.loads(page.body)
    return page.status, body["status"], {check["name"]: check.get("problem", "") for check in body["checks"]}


async def test_a_process_whose_checks_pass_is_ready() -> None:
    health = Health()
    health.add("postgres", passes)
    page = await pages_of(health).readyz()
    assert read(page) == (200, "ready", {"postgres": ""})
    assert page.content_type == "application/json"


async def test_a_process_without_checks_is_ready() -> None:
    assert read(await pages_of(Health()).readyz()) == (200, "ready", {})


async def test_a_failing_check_is_named_and_its_neighbours_are_still_shown() -> None:
    async def refuses() -> None:
        raise ConnectionRefusedError("postgresql://app:hunter2@db refused")

    async def lags() -> None:
        raise NotReadyError("schema 3 is needed, 2 is there")

    health = Health()
    health.add("postgres", refuses)
    health.add("schema", lags)
    health.add("progress", passes)
    page = await pages_of(health).readyz()
    assert read(page) == (
        503,
        "not ready",
        {"postgres": "ConnectionRefusedError", "schema": "schema 3 is needed, 2 is there", "progress": ""},
    )
    assert b"hunter2" not in page.body


async def test_a_check_that_is_not_required_is_shown_and_does_not_count() -> None:
    async def fails() -> None:
        raise NotReadyError("no Redis")

    health = Health()
    health.add("redis", fails, required=False)
    assert read(await pages_of(health).readyz()) == (200, "ready", {"redis": "no Redis"})


async def test_a_check_that_hangs_is_given_up_and_does_not_hold_the_others() -> None:
    ended: list[str] = []

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hangs")

    health = Health()
    health.add("slow", hangs, timeout_seconds=0.01)
    health.add("fast", passes)
    status, _, checks = read(await asyncio.wait_for(pages_of(health).readyz(), 10))
    assert (status, checks) == (503, {"slow": "no answer within 0.01 s", "fast": ""})
    assert ended == ["hangs"]


async def test_checks_run_side_by_side() -> None:
    meeting = asyncio.Barrier(3)
    health = Health()
    for number in range(3):
        health.add(str(number), meeting.wait, timeout_seconds=10)
    assert read(await pages_of(health).readyz())[0] == 200


async def test_concurrent_callers_share_one_run_and_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    go_on = asyncio.Event()

    async def counts() -> None:
        runs.append(1)
        await go_on.wait()

    health = Health(cache_seconds=1000)
    health.add("postgres", counts, timeout_seconds=10)
    askers = [asyncio.create_task(health.results()) for _ in range(5)]
    impatient = asyncio.create_task(health.results())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    go_on.set()
    answers = await asyncio.gather(*askers)
    assert all(answer[0].ok for answer in answers)
    await health.results()
    assert len(runs) == 1


async def test_a_result_is_not_used_beyond_its_time() -> None:
    answers = iter([passes, None])

    async def fails_the_second_time() -> None:
        if next(answers) is None:
            raise NotReadyError("gone")

    health = Health(cache_seconds=0)
    health.add("postgres", fails_the_second_time)
    assert (await health.results())[0].ok
    assert not (await health.results())[0].ok


async def test_a_process_that_stops_is_not_ready_at_once() -> None:
    health = Health(cache_seconds=1000)
    health.add("postgres", passes)
    pages = pages_of(health)
    assert read(await pages.readyz())[0] == 200
    health.drain()
    assert read(await pages.readyz())[:2] == (503, "stopping")
    assert (await pages.livez()).status == 200


async def test_a_change_of_health_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    working = [True]

    async def check() -> None:
        if not working[0]:
            raise NotReadyError("gone")

    health = Health(cache_seconds=0)
    health.add("postgres", check)
    for state in (True, False, False, True, True):
        working[0] = state
        await health.results()
    written = capsys.readouterr().out
    assert written.count("health_check_failed") == 1
    assert written.count("health_check_recovered") == 1


@pytest.fixture
async def url() -> AsyncIterator[str]:
    health = Health()
    health.add("postgres", passes)
    server = OpsServer(bind="127.0.0.1:0", pages=pages_of(health))
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.stop()
    await server.stop()


async def test_the_pages_are_served_over_http(url: str) -> None:
    async with aiohttp.ClientSession(url) as client:
        async with client.get("/livez") as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, "alive")
        async with client.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, "ready")
            assert answer.headers["Cache-Control"] == "no-store"
        async with client.get("/version") as answer:
            assert await answer.json() == {"service": "gateway", "version": "1.2.3"}
        async with client.get("/metrics") as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert "homeroom_process_info" in await answer.text()
        async with client.head("/livez") as answer:
            assert (answer.status, await answer.read()) == (200, b"")


async def test_other_pages_and_methods_are_refused(url: str) -> None:
    async with aiohttp.ClientSession(url) as client:
        async with client.get("/v1/sessions") as answer:
            assert answer.status == 404
        async with client.post("/livez") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_a_path_without_a_page_has_no_answer() -> None:
    assert await pages_of(Health()).get("/v1/sessions") is None


async def test_an_address_in_use_is_an_error_and_leaves_nothing_open(url: str) -> None:
    server = OpsServer(bind=url.removeprefix("http://"), pages=pages_of(Health()))
    with pytest.raises(OSError):
        await server.start()
    await server.stop()


def test_the_version_is_the_installed_ones_or_the_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "homeroom"\nversion = "9.8.7"\n')
    assert version._version_of_checkout(tmp_path) == "9.8.7"

    monkeypatch.setattr("importlib.metadata.version", lambda _name: "4.5.6")
    assert version.version.__wrapped__() == "4.5.6"


@pytest.mark.parametrize(
    "content", [None, "not toml =", "[project]\n", '[project]\nname = "other"\nversion = "1"\n']
)
def test_a_version_that_cannot_be_found_is_unknown(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    assert version._version_of_checkout(tmp_path) == version.UNKNOWN
