"""A team moves in: its progress is imported, the licenses follow, and disagreements end by an order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg

from homeroom.supervisor import Stack
from tests.support.command_line import run
from tests.support.http_client import HttpClient, unique
from tests.support.waiting import eventually


async def test_imported_levels_become_licenses(stack: Stack, http: HttpClient, tmp_path: Path) -> None:
    player, ann, bob = unique("PLAYER"), unique("ann"), unique("bob")
    await put_levels(http, player)
    for user in (ann, bob):
        await http.put_account(user)
    path = tmp_path / "old.csv"
    path.write_text(
        "userId,specialization,level,xp,updatedAt\n"
        f"{ann},{player},3,40,2025-01-01T00:00:00Z\n"
        f"{ann},{player},2,15,2025-02-01T00:00:00Z\n"
        f"{bob},{player},9,15,2025-02-01T00:00:00Z\n"
    )
    data = ("--data", str(stack.data_dir))
    dry = await run("import", "progress", str(path), "--dry-run", "--json", *data)
    assert (dry.code, dry.json["levels_raised"]) == (0, 1), dry.stderr
    report = (tmp_path / "old.csv.report.jsonl").read_text()
    real = await run("import", "progress", str(path), "--json", *data)
    assert (real.code, real.json["xp_added"], real.json["rejected"]) == (0, 55, 1), real.stderr
    assert (tmp_path / "old.csv.report.jsonl").read_text().splitlines()[:-1] == report.splitlines()[:-1]
    run_id = real.json["sync_run"]

    async def finished() -> bool:
        answer = await http.admin("GET", f"/v1/sync/runs/{run_id}")
        return bool(answer.body["state"] == "FINISHED")

    await eventually(finished, seconds=30)
    licenses = (await http.send("GET", "/v1/licenses", user=ann)).body["licenses"]
    assert [(each["specialization"], each["level"], each["maxLevel"]) for each in licenses] == [
        (player, 3, 5)
    ]


async def test_disagreements_are_listed_and_end_by_an_order(stack: Stack, http: HttpClient) -> None:
    player, ann, bob, cy = unique("PLAYER"), unique("ann"), unique("bob"), unique("cy")
    for user in (ann, bob, cy):
        await http.put_account(user)
    await eventually(lambda: no_run_is_under_way(http), seconds=30)  # the scheduled one
    await plant(stack, player, {ann: (3, 1), bob: (2, None), cy: (None, 4)})
    listed = (await http.admin("GET", f"/v1/sync/desyncs?specialization={player}")).body
    assert listed["desyncs"] == [
        desync(ann, player, "LEVEL_MISMATCH", progressLevel=3, licenseLevel=1),
        desync(bob, player, "PROGRESS_WITHOUT_LICENSE", progressLevel=2),
        desync(cy, player, "LICENSE_WITHOUT_PROGRESS", licenseLevel=4),
    ]

    body = {"direction": "PROGRESS_TO_LICENSE"}
    answer = await http.admin("POST", f"/v1/sync/users/{ann}", json=body, key=unique("k"))
    assert answer.status == 200, answer.text
    (change,) = answer.body["changes"]
    assert (change["outcome"], change["before"], change["after"]) == (
        "APPLIED",
        {"progressLevel": 3, "licenseLevel": 1},
        {"progressLevel": 3, "licenseLevel": 3},
    )

    body = {"direction": "BOTH_WAYS", "specialization": player}
    dry = await http.admin("POST", "/v1/sync/all", json=body, key=unique("k"))
    assert dry.status == 200, dry.text
    assert (dry.body["run"]["dryRun"], dry.body["run"]["state"]) == (True, "FINISHED")
    assert [change["userId"] for change in dry.body["changes"]] == [bob, cy]
    assert dry.body["run"]["statistics"]["planned"] == 2
    key = unique("k")
    real = await http.admin("POST", "/v1/sync/all", json={**body, "dryRun": False}, key=key)
    assert real.body["run"]["statistics"]["applied"] == 2
    replay = await http.admin("POST", "/v1/sync/all", json={**body, "dryRun": False}, key=key)
    assert (replay.replayed, replay.text) == (True, real.text)
    changes = await http.admin("GET", f"/v1/sync/runs/{real.body['run']['runId']}/changes?pageSize=1")
    assert [change["userId"] for change in changes.body["changes"]] == [bob]
    assert changes.body["nextPageToken"]
    assert (await http.admin("GET", f"/v1/sync/desyncs?specialization={player}")).body["desyncs"] == []
    progress = await http.send("GET", "/v1/specializations/progress", user=cy)
    (standing,) = progress.body["specializations"]
    assert (standing["level"], standing["xp"]) == (4, 0)


async def test_only_those_who_may_order_it(http: HttpClient) -> None:
    ann = unique("ann")
    await http.put_account(ann)
    for method, path in (("GET", "/v1/sync/desyncs"), ("GET", "/v1/sync/runs")):
        assert (await http.send(method, path, user=ann)).status == 403
    order = {"direction": "BOTH_WAYS"}
    for role in ("learner", "instructor"):
        answer = await http.send("POST", "/v1/sync/all", user=ann, roles=(role,), json=order, key=unique("k"))
        assert answer.status == 403
    for body in ({}, {"direction": "DOWN"}, {"direction": "BOTH_WAYS", "dryRun": "no"}):
        assert (await http.admin("POST", "/v1/sync/all", json=body, key=unique("k"))).status == 400
    assert (await http.admin("POST", "/v1/sync/all", json=order)).status == 400  # no key
    assert (await http.admin("GET", "/v1/sync/runs/not-a-uuid")).status == 400


async def put_levels(http: HttpClient, specialization: str) -> None:
    levels = [
        {"level": level, "name": f"Level {level}", "xpRequired": 100 * (level - 1)} for level in range(1, 6)
    ]
    answer = await http.admin(
        "PUT", f"/v1/specializations/{specialization}", json={"name": "Player", "levels": levels}
    )
    assert answer.status == 200, answer.text


async def no_run_is_under_way(http: HttpClient) -> bool:
    runs = (await http.admin("GET", "/v1/sync/runs")).body["runs"]
    return all(run["state"] == "FINISHED" for run in runs)


def desync(user: str, specialization: str, kind: str, **levels: int) -> dict[str, Any]:
    return {"userId": user, "specialization": specialization, "kind": kind, **levels}


async def plant(stack: Stack, name: str, levels: dict[str, tuple[int | None, int | None]]) -> None:
    """Levels of progress and license, as if an hour had gone by since they came to disagree."""
    progress = await asyncpg.connect(stack.dsn("progress"))
    licenses = await asyncpg.connect(stack.dsn("subscription"))
    try:
        for user, (ours, theirs) in levels.items():
            if ours is not None:
                await progress.execute(
                    """
                    INSERT INTO specialization_progress (user_id, specialization, xp, level, max_level,
                           granted_level, epoch, catalog_version, version, updated_at)
                    VALUES ($1, $2, 0, $3, 9, 0, 0, 0, 1, now() - interval '1 hour')
                    """,
                    user,
                    name,
                    ours,
                )
            if theirs is not None:
                await licenses.execute(
                    """
                    INSERT INTO licenses (user_id, specialization, level, max_level, updated_at)
                    VALUES ($1, $2, $3, 9, now() - interval '1 hour')
                    """,
                    user,
                    name,
                    theirs,
                )
    finally:
        await progress.close()
        await licenses.close()
