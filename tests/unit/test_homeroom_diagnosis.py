"""What is seen only in all processes together, and how findings are shown."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from homeroom.data_directory import DataDirectory
from homeroom.diagnosis import (
    Diagnosis,
    clocks_apart,
    databases_shared,
    diagnose_environments,
    tokens_apart,
)
from homeroom.environments import Configured, NoConfigurationError, of_files, of_stack, read_env_file
from homeroom.findings import at_least, gathered, is_critical, show
from homeroom.services import GATEWAY, PROGRESS, SERVICES, SESSION, Service
from homeroom.state import ProcessState, StackState


def finding(check: str = "environment.x", severity: str = "HIGH", **more) -> dict:
    return {"check": check, "severity": severity, "observed": "it is so", "expected": "", "row": {}} | more


def clock(process: str, offset: str, uncertainty: str = "0.001") -> Diagnosis:
    evidence = {"offset_seconds": offset, "uncertainty_seconds": uncertainty}
    return Diagnosis(process, (finding("environment.database_clock", evidence=evidence),))


async def test_a_process_that_cannot_be_asked_is_critical_and_hides_no_other() -> None:
    broken = Service("no_such_process", None, ())
    found = await diagnose_environments([Configured(broken, dict(os.environ))])
    assert not found.ran
    (finding_,) = found.findings
    assert finding_["severity"] == "CRITICAL"
    assert "the checks of no_such_process could not be run: it ended with code 1" in finding_["observed"]
    assert "No module named" in finding_["observed"]


def test_databases_whose_clocks_differ_are_found() -> None:
    found = clocks_apart([clock("a", "0.1"), clock("b", "5.2"), clock("c", "0.3")])
    assert [each["observed"] for each in found] == [
        "the clocks of the databases of a and b are 5.1 s apart",
        "the clocks of the databases of b and c are 4.9 s apart",
    ]
    assert not clocks_apart([clock("a", "0.1"), clock("b", "3.0", "1.5")])


def test_two_services_on_one_database_are_found() -> None:
    def on(process: str, database: str) -> Diagnosis:
        evidence = {"database": database}
        return Diagnosis(process, (finding("environment.database_reachable", "INFO", evidence=evidence),))

    apart = [on("a", "session at db"), on("b", "progress at db")]
    assert not databases_shared(apart)
    (found,) = databases_shared([*apart, on("c", "session at db")])
    assert found["severity"] == "CRITICAL"
    assert found["observed"] == "a and c use the same database, session at db"


def test_processes_with_another_token_are_found_and_the_token_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("one-token\n")
    same = [
        Configured(SESSION, {"HOMEROOM_SERVICE_TOKEN": "one-token"}),
        Configured(PROGRESS, {"HOMEROOM_SERVICE_TOKEN_FILE": str(secret)}),
    ]
    assert not tokens_apart(same)
    assert not tokens_apart([*same, Configured(GATEWAY, {})])
    (found,) = tokens_apart([*same, Configured(GATEWAY, {"HOMEROOM_SERVICE_TOKEN": "another"})])
    assert found["observed"].endswith("gateway | progress_service, session_service")
    assert "token" not in found["observed"].replace("service tokens", "")


def test_the_worst_comes_first_and_equal_words_are_told_once() -> None:
    entries = gathered(
        [
            finding(severity="INFO", process="a"),
            finding(severity="CRITICAL", process="a"),
            finding(severity="CRITICAL", process="b"),
            finding(severity="CRITICAL", process="b", row={"pid": "1"}),
        ]
    )
    assert [(each["severity"], processes) for each, processes in entries] == [
        ("CRITICAL", ("a", "b")),
        ("CRITICAL", ("b",)),
        ("INFO", ("a",)),
    ]


def test_findings_are_chosen_by_severity() -> None:
    findings = [finding(severity=each) for each in ("INFO", "MEDIUM", "CRITICAL")]
    assert [each["severity"] for each in at_least(findings, "MEDIUM")] == ["MEDIUM", "CRITICAL"]
    assert is_critical(findings)
    assert not is_critical(findings[:2])


def test_markup_in_a_finding_is_shown_as_it_is_written() -> None:
    output = io.StringIO()
    show(
        [finding(observed="[bold]x[/]", check="[red]", evidence={"[a]": "[b]"}, userId="[ada]")],
        Console(file=output, width=200),
    )
    for part in ("[bold]x[/]", "[red]", "[a]", "[b]", "[ada]", "1 high"):
        assert part in output.getvalue()


def test_an_empty_list_says_that_nothing_is_wrong() -> None:
    output = io.StringIO()
    show([], Console(file=output))
    assert "Nothing is wrong." in output.getvalue()


def test_an_env_file_is_read_as_docker_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.env"
    path.write_text("# a comment\n\nexport A=1\nB=\"two words\"\nC='x=y'\nD=\nE = padded\nF=a#b\n")
    assert read_env_file(path) == {
        "A": "1",
        "B": "two words",
        "C": "x=y",
        "D": "",
        "E": "padded",
        "F": "a#b",
    }


def test_a_line_that_is_none_is_named_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a.env"
    path.write_text("A=1\nmy secret\n")
    with pytest.raises(NoConfigurationError, match="line 2 is not NAME=value") as raised:
        read_env_file(path)
    assert "secret" not in str(raised.value)


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """The folder of a stack that has run once."""
    directory = DataDirectory(tmp_path / "data")
    directory.root.mkdir()
    secrets = directory.secrets()
    for name in ("postgres", "service_token"):
        secrets.get(name)
    for database in ("session", "subscription", "progress"):
        secrets.get(f"{database}_service")
        secrets.get(f"{database}_owner")
    return directory


def test_a_stack_that_does_not_run_is_read_and_nothing_is_written(data: DataDirectory) -> None:
    before = sorted(data.root.rglob("*"))
    configured = {each.service.package: each.environment for each in of_stack(data, None)}
    assert sorted(data.root.rglob("*")) == before
    assert set(configured) == {service.package for service in SERVICES}
    session = configured["session_service"]
    assert data.secrets().get("session_service") in session["HOMEROOM_DATABASE_URL"]
    assert session["HOMEROOM_DATABASE_FOLDER"] == str(data.postgres)
    assert session["HOMEROOM_REDIS_URL"] == ""
    assert configured["gateway"]["HOMEROOM_JWKS"] == str(data.keys / "jwks.json")


def test_the_addresses_of_a_stack_are_those_of_its_state(data: DataDirectory) -> None:
    running = tuple(
        ProcessState(name=name, pid=1, port=port, ops_port=port + 1, started_at=None, restarts=0)
        for name, port in (("subscription_service", 7000), ("progress_service", 7002))
    )
    state = StackState(supervisor_pid=1, gateway_url="", ready=True, processes=running)
    configured = {each.service.package: each.environment for each in of_stack(data, state)}
    assert configured["session_service"]["HOMEROOM_SUBSCRIPTION_TARGET"] == "127.0.0.1:7000"
    assert configured["progress_service"]["HOMEROOM_OPS_BIND"] == "127.0.0.1:7003"
    assert configured["session_service"]["HOMEROOM_BIND"] == "127.0.0.1:0"


def test_a_folder_without_a_stack_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(NoConfigurationError, match="no stack was ever started"):
        of_stack(DataDirectory(tmp_path / "none"), None)
    assert not (tmp_path / "none").exists()


def test_an_env_file_replaces_all_variables_of_homeroom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", "of somebody else")
    monkeypatch.setenv("LANG_OF_TEST", "C")
    path = tmp_path / "session_service.production.env"
    path.write_text("HOMEROOM_BIND=127.0.0.1:0\n")
    (by_name,) = of_files([str(path)])
    (given,) = of_files([f"session_service={path}"])
    assert by_name == given
    assert given.service is SESSION
    assert given.environment["HOMEROOM_BIND"] == "127.0.0.1:0"
    assert given.environment["LANG_OF_TEST"] == "C"
    assert "HOMEROOM_DATABASE_URL" not in given.environment
