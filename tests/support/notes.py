"""A small table of notes to write to, and ways to look at it and to do harm."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from chassis.postgres import (
    Connection,
    Database,
)

TABLES = """
    CREATE TABLE courses (course_id text CONSTRAINT courses_pkey PRIMARY KEY);
    CREATE TABLE notes (
        user_id text NOT NULL,
        body text,
        stars integer NOT NULL DEFAULT 0,
        course_id text,
        seat int4range,
        CONSTRAINT notes_once PRIMARY KEY (user_id),
        CONSTRAINT notes_stars_at_most_five CHECK (stars <= 5),
        CONSTRAINT notes_course_exists FOREIGN KEY (course_id) REFERENCES courses,
        CONSTRAINT notes_seats_apart EXCLUDE USING gist (seat WITH &&)
    );
    INSERT INTO notes (user_id) SELECT 'locked-' || n FROM generate_series(1, 2) AS n;
"""
INSERT = "INSERT INTO notes (user_id, body) VALUES ($1, 'hello') RETURNING user_id"


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


@asynccontextmanager
async def opened(dsn: str, **settings: int) -> AsyncIterator[Database]:
    database = await Database.connect(dsn, application_name="under test", **settings)
    try:
        yield database
    finally:
        await database.close()


async def written(admin: Connection, user_id: str) -> bool:
    return bool(await admin.fetchval("SELECT count(*) FROM notes WHERE user_id = $1", user_id))


async def terminate_backends(admin: Connection) -> int:
    rows = await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'under test'"
    )
    return len(rows)


def insert(user_id: str) -> Callable[[Connection], Awaitable[Any]]:
    async def work(connection: Connection) -> Any:
        return await connection.fetchval(INSERT, user_id)

    return work


async def one(connection: Connection) -> Any:
    return await connection.fetchval("SELECT 1")
