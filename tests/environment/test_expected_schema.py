"""What is recorded beside the migrations is what they make."""

from __future__ import annotations

import json

import pytest

from chassis.diagnostics.environment.schema import expected_schema
from homeroom.expected_schema import file_of, recorded
from homeroom.services import PROGRESS, SESSION, SUBSCRIPTION, Service
from tests.support.databases import Databases


@pytest.mark.parametrize("service", [SESSION, SUBSCRIPTION, PROGRESS], ids=lambda each: each.package)
async def test_the_record_of_a_service_is_what_its_migrations_make(
    databases: Databases, service: Service
) -> None:
    assert service.database is not None
    async with databases.fresh(service.database) as database:
        made = (await recorded(database.service)).splitlines()
    lines = file_of(service).read_text(encoding="utf-8").splitlines()
    differing = sorted(set(made) ^ set(lines))
    assert lines == made, "run `python -m homeroom.expected_schema` and commit the files:\n" + "\n".join(
        differing[:20]
    )


def test_a_record_is_read_as_it_is_written() -> None:
    expected = expected_schema(file_of(SESSION))
    assert expected.objects["column"]["sessions.user_id"] == "text NOT NULL"
    assert expected.objects["constraint"]["sessions.sessions_once"] == "PRIMARY KEY (user_id, session_id)"
    assert "WHERE" in expected.objects["index"]["sessions.sessions_one_live_per_test"]
    assert "public." not in json.dumps(dict(expected.objects["index"]))
    # The row types that statements send are part of it.
    assert "started_session.user_id" in expected.objects["column"]
