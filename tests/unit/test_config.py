"""Configuration is read once, and all its problems are reported together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from chassis.addresses import split_host_port
from chassis.process.config import (
    ConfigError,
    Mode,
    ProcessConfig,
    Secret,
    ServiceConfig,
    check_http_url,
    load,
    rules,
)
from chassis.telemetry.logs import LogLevel

TOKEN = "0123456789abcdef-shared"
BINDS = {"HOMEROOM_BIND": "127.0.0.1:0", "HOMEROOM_OPS_BIND": "127.0.0.1:0"}
MINIMAL = {**BINDS, "HOMEROOM_SERVICE_TOKEN": TOKEN}


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Everything:
    name: str
    count: int = field(default=3, metadata=rules(minimum=1, maximum=9))
    ratio: float = 0.5
    folder: Path | None = None
    colour: Colour = Colour.RED
    password: Secret | None = None
    hosts: tuple[str, ...] = ("localhost",)


def test_each_type_is_read_from_its_variable() -> None:
    config = load(
        Everything,
        {
            "HOMEROOM_NAME": " maths ",
            "HOMEROOM_COUNT": "7",
            "HOMEROOM_RATIO": "0.25",
            "HOMEROOM_FOLDER": "/var/lib/homeroom",
            "HOMEROOM_COLOUR": "BLUE",
            "HOMEROOM_PASSWORD": "s3cret",
            "HOMEROOM_HOSTS": "a.example, b.example,",
        },
    )
    assert config == Everything(
        name="maths",
        count=7,
        ratio=0.25,
        folder=Path("/var/lib/homeroom"),
        colour=Colour.BLUE,
        password=Secret("s3cret"),
        hosts=("a.example", "b.example"),
    )


def test_unset_and_empty_variables_take_the_defaults() -> None:
    assert load(
        Everything, {"HOMEROOM_NAME": "x", "HOMEROOM_COUNT": "", "HOMEROOM_FOLDER": " "}
    ) == Everything(name="x")


def test_variables_of_other_processes_are_ignored() -> None:
    assert load(Everything, {"HOMEROOM_NAME": "x", "HOMEROOM_JWKS": "/keys", "NAME": "y"}).name == "x"


def test_every_problem_is_reported_at_once_with_its_variable() -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            Everything,
            {
                "HOMEROOM_COUNT": "many",
                "HOMEROOM_RATIO": "nan",
                "HOMEROOM_COLOUR": "green",
                "HOMEROOM_PASSWORD_FILE": "/nonexistent/password",
            },
        )
    for variable in ("NAME", "COUNT", "RATIO", "COLOUR", "PASSWORD_FILE"):
        assert f"HOMEROOM_{variable}" in str(caught.value)
    assert len(caught.value.problems) == 5
    assert "choose one of red, blue" in str(caught.value)


@pytest.mark.parametrize(("count", "said"), [("0", "at least 1"), ("10", "at most 9")])
def test_a_number_outside_its_bounds_is_refused(count: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(Everything, {"HOMEROOM_NAME": "x", "HOMEROOM_COUNT": count})


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("from-file\n")
    config = load(Everything, {"HOMEROOM_NAME": "x", "HOMEROOM_PASSWORD_FILE": str(path)})
    assert config.password is not None
    assert config.password.reveal() == "from-file"


def test_only_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_text("x")
    with pytest.raises(ConfigError, match="HOMEROOM_NAME is missing"):
        load(Everything, {"HOMEROOM_NAME_FILE": str(path)})


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("a")
    environ = {"HOMEROOM_NAME": "x", "HOMEROOM_PASSWORD": "b", "HOMEROOM_PASSWORD_FILE": str(path)}
    with pytest.raises(ConfigError, match="both set"):
        load(Everything, environ)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_secret_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="HOMEROOM_PASSWORD_FILE names"):
        load(Everything, {"HOMEROOM_NAME": "x", "HOMEROOM_PASSWORD_FILE": str(path)})


def test_a_secret_does_not_show_itself() -> None:
    config = Everything(name="x", password=Secret("hunter2"))
    for text in (repr(config), f"{config.password}", str(config.password), repr(config.password)):
        assert "hunter2" not in text
    assert "hunter2" not in "{password}".format(**dataclasses.asdict(config))


def test_a_refused_value_of_a_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load(ProcessConfig, MINIMAL | {"HOMEROOM_SERVICE_TOKEN": "tooshort"})
    assert "HOMEROOM_SERVICE_TOKEN" in str(caught.value)
    assert "tooshort" not in str(caught.value)


def test_production_is_the_default_mode() -> None:
    config = load(ProcessConfig, MINIMAL)
    assert config.mode is Mode.PRODUCTION
    assert config.trace_sample_ratio == 0.01
    assert config.log_level is LogLevel.INFO


def test_production_refuses_a_missing_token_and_failpoints_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        load(ProcessConfig, {"HOMEROOM_FAILPOINTS_DIR": "/failpoints"})
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "HOMEROOM_BIND",
        "HOMEROOM_OPS_BIND",
        "HOMEROOM_SERVICE_TOKEN",
        "HOMEROOM_FAILPOINTS_DIR",
    ]


def test_development_needs_neither_token_nor_refuses_failpoints(tmp_path: Path) -> None:
    config = load(
        ProcessConfig,
        {**BINDS, "HOMEROOM_MODE": "development", "HOMEROOM_FAILPOINTS_DIR": str(tmp_path)},
    )
    assert config.service_token is None
    assert config.failpoints_dir == tmp_path


def test_a_mode_that_cannot_be_read_is_not_taken_for_development() -> None:
    with pytest.raises(ConfigError, match="HOMEROOM_MODE is 'dev': choose one of production, development"):
        load(ProcessConfig, {**BINDS, "HOMEROOM_MODE": "dev"})


def test_a_process_needs_an_address_for_its_operations_pages() -> None:
    with pytest.raises(ConfigError, match="HOMEROOM_OPS_BIND is missing: set it to host:port"):
        load(ProcessConfig, MINIMAL | {"HOMEROOM_OPS_BIND": ""})


def test_a_subclass_adds_rules_between_fields() -> None:
    with pytest.raises(ConfigError) as caught:
        load(_Ordered, {**BINDS, "HOMEROOM_LOW": "5", "HOMEROOM_HIGH": "4"})
    assert len(caught.value.problems) == 2


@dataclass(frozen=True, kw_only=True)
class _Ordered(ProcessConfig):
    low: int = 1
    high: int = 2

    @classmethod
    def problems(cls, given: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(given)
        if given["low"] > given["high"]:
            yield "HOMEROOM_LOW is above HOMEROOM_HIGH"


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        (":8080", ("0.0.0.0", 8080)),
    ],
)
def test_an_address_is_split_into_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert split_host_port(address) == parts


@pytest.mark.parametrize(
    "address", ["", "8080", "host:", "host:http", "host:65536", "host:-1", "::1:80", "h:٣"]
)
def test_an_address_without_a_usable_port_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        split_host_port(address)
    with pytest.raises(ConfigError, match="HOMEROOM_BIND"):
        load(ProcessConfig, MINIMAL | {"HOMEROOM_BIND": address})


@pytest.mark.parametrize("url", ["collector:4318", "ftp://host", "http://", "http://[::1"])
def test_a_collector_that_is_no_http_url_is_refused(url: str) -> None:
    assert check_http_url(url) is not None
    with pytest.raises(ConfigError, match="HOMEROOM_OTLP_ENDPOINT"):
        load(ProcessConfig, MINIMAL | {"HOMEROOM_OTLP_ENDPOINT": url})


def test_a_collector_url_is_accepted() -> None:
    config = load(ProcessConfig, MINIMAL | {"HOMEROOM_OTLP_ENDPOINT": "http://collector:4318"})
    assert config.otlp_endpoint == "http://collector:4318"


DATABASE = {**MINIMAL, "HOMEROOM_DATABASE_URL": "postgresql://localhost/db"}


def test_prepared_statements_are_kept_unless_they_are_switched_off() -> None:
    assert load(ServiceConfig, DATABASE).database_statement_cache > 0
    assert (
        load(ServiceConfig, DATABASE | {"HOMEROOM_DATABASE_STATEMENT_CACHE": "0"}).database_statement_cache
        == 0
    )
    with pytest.raises(ConfigError, match="HOMEROOM_DATABASE_STATEMENT_CACHE is -1"):
        load(ServiceConfig, DATABASE | {"HOMEROOM_DATABASE_STATEMENT_CACHE": "-1"})
