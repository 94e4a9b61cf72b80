"""What is told about configurations: addresses without their secrets, and no doubt about ours."""

from __future__ import annotations

import pytest
import yaml

from chassis.diagnostics.environment import database, redis
from chassis.diagnostics.findings import Severity
from chassis.process.config import read
from chassis.process.doubts import doubts_of
from homeroom.services import SERVICES, Service
from tests.environment.world import CONFIGS
from tests.support.command_line import ROOT
from tests.unit.test_homeroom_compose import filled_in


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@db.example:5432/session", "session at db.example:5432"),
        ("postgresql://ada:secret@db.example/session", "session at db.example"),
        ("postgresql://ada:secret@/session?host=/var/run/pg&port=5432", "session at /var/run/pg"),
        ("postgresql://ada:12/sec@ret@db.example/session", ""),
        ("postgresql://ada:12#sec@db.example/session", ""),
        ("postgresql://ada:12?sec@db.example/session", ""),
        ("postgresql://ada:secret@[half/session", ""),
        ("postgresql://ada:secret@db.example:port/session", ""),
        (None, ""),
    ],
)
def test_a_database_is_named_without_its_password(url: str | None, shown: str) -> None:
    assert database.address_of(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@cache.example:6380/0", "cache.example:6380"),
        ("rediss://ada:secret@cache.example", "cache.example:6379"),
        ("unix://:secret@/run/redis.sock", "/run/redis.sock"),
        ("redis://:12/sec@cache.example", ""),
        ("redis://:secret@[half", ""),
        (None, ""),
    ],
)
def test_a_redis_is_named_without_its_password(url: str | None, shown: str) -> None:
    assert redis.address_of(url) == shown


@pytest.mark.parametrize("service", SERVICES, ids=lambda each: each.package)
def test_there_is_no_doubt_about_the_configuration_in_compose(service: Service) -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    given, problems = read(
        CONFIGS[service.package], filled_in(compose["services"][service.package]["environment"])
    )
    assert problems == ()
    doubts = doubts_of(CONFIGS[service.package], given)
    assert [doubt for doubt in doubts if doubt.severity > Severity.INFO] == []
    # Its network is private, and that is said.
    assert any("plain text" in doubt.text for doubt in doubts) == bool(service.upstreams)
