"""`python -m bench.scale.imports`: the time and the memory of `progress_service import` for a file."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from bench.scale.progress_population import COMPLETIONS_PER_LEARNER, build, course_of, learner, lesson_name
from bench.scale.server import kept_store
from chassis.postgres import Connection

LESSONS_PER_LEARNER = 4
LEVELS_PER_LEARNER = 1
HEADER = "userId,specialization,level,xp,updatedAt,moduleId,lessonId,completedAt\n"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
# One row in so many is a repetition, or contradicts the row before it, or cannot be imported.
REPEATED, CONTRADICTED, WRONG = 20, 50, 1000


def lines(count: int, chance: random.Random) -> Iterator[str]:
    """Rows of learners one after the other: a level, and the first lessons of a course."""
    number = made = 0
    while made < count:
        user_id, number = learner(number), number + 1
        moment = SINCE + timedelta(seconds=number)
        rows = [f"{user_id},PLAYER,{chance.randint(1, 4)},{chance.randrange(500)},{moment.isoformat()},,,\n"]
        for place in range(LESSONS_PER_LEARNER):
            module_id, lesson_id = lesson_name(course_of(number, 0), place)
            rows.append(
                f"{user_id},,,,,{module_id},{lesson_id},{(moment + timedelta(hours=place)).isoformat()}\n"
            )
        for row in rows:
            if chance.randrange(REPEATED) == 0:
                yield row
                made += 1
            if chance.randrange(CONTRADICTED) == 0:
                yield f"{user_id},PLAYER,{chance.randint(1, 4)},1,{moment.isoformat()},,,\n"
                made += 1
            yield row if chance.randrange(WRONG) else f"{user_id},NOBODY,1,1,{moment.isoformat()},,,\n"
            made += 1


async def run(rows: int, seed: int) -> int:
    async def fill(connection: Connection) -> None:
        await build(connection, COMPLETIONS_PER_LEARNER)

    with tempfile.TemporaryDirectory(prefix="homeroom-import-") as folder:
        file = Path(folder) / "progress.csv"
        with file.open("w") as written:
            written.write(HEADER)
            written.writelines(lines(rows, random.Random(seed)))
        print(f"{file.stat().st_size / 2**20:.0f} MiB")
        async with kept_store("progress", fill, signature="import") as addresses:
            code = 0
            for title in ("first", "again"):
                code = code or await asyncio.to_thread(_import, title, file, addresses.service)
            truth = await asyncpg.connect(addresses.superuser)
            for table in ("learner_statistics", "lesson_completions", "xp_entries", "import_rows"):
                found = await truth.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
                print(f"{found:,} {table}")
            await truth.close()
    return code


def _import(title: str, file: Path, database_url: str) -> int:
    began = time.monotonic()
    program = subprocess.Popen(
        [sys.executable, "-m", "progress_service", "import", str(file)],
        env={**os.environ, "HOMEROOM_DATABASE_URL": database_url},
    )
    _, status, used = os.wait4(program.pid, 0)
    seconds, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
    print(f"{title}: {seconds:.0f} s, {cpu:.0f} s of CPU in it, {used.ru_maxrss / 1024:.0f} MiB at most")
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale.imports", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    return asyncio.run(run(chosen.rows, chosen.seed))


if __name__ == "__main__":
    sys.exit(main())
