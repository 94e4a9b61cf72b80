"""Asks each process to check its environment, and compares what they say.

A process knows its own configuration and migrations, so `python -m PROCESS diagnose` makes its findings. What
no process can see alone is seen here.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from chassis.telemetry.redaction import redacted
from homeroom.environments import Configured
from homeroom.findings import Finding
from homeroom.services import module_command

PROCESS_SECONDS_MAX = 60.0
"""Its checks take five seconds at most; a busy machine takes long to start Python."""

CLOCK_SECONDS_MAX = 2.0
_TOKEN = "HOMEROOM_SERVICE_TOKEN"  # noqa: S105 - the name of the variable


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one process says; `problem` is why it could not say everything."""

    process: str
    findings: tuple[Finding, ...] = ()
    checked: tuple[str, ...] = ()
    seconds: float = 0.0
    problem: str = ""


@dataclass(slots=True)
class Environments:
    """What all processes say, and what is seen only in all of them together."""

    diagnoses: list[Diagnosis]
    together: list[Finding] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        return [*self.together, *(finding for each in self.diagnoses for finding in each.findings)]

    @property
    def ran(self) -> bool:
        """Whether any process could say what it has seen."""
        return any(not each.problem for each in self.diagnoses)


async def diagnose_environments(configured: Sequence[Configured]) -> Environments:
    """The findings of all these processes, asked side by side. Never raises for what is wrong with one."""
    diagnoses = await asyncio.gather(*(_diagnose(each) for each in configured))
    return Environments(
        [_with_problem(each) for each in diagnoses],
        [*clocks_apart(diagnoses), *databases_shared(diagnoses), *tokens_apart(configured)],
    )


async def _diagnose(configured: Configured) -> Diagnosis:
    name = configured.service.package
    process = await asyncio.create_subprocess_exec(
        *module_command(name),
        "diagnose",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(configured.environment),
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), PROCESS_SECONDS_MAX)
    except TimeoutError:
        return Diagnosis(name, problem=f"it took longer than {PROCESS_SECONDS_MAX:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _read(name, output.decode(errors="replace"), errors.decode(errors="replace"), process.returncode)


def _read(name: str, output: str, errors: str, code: int | None) -> Diagnosis:
    lines: list[dict[str, Any]] = []
    for line in output.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            errors += f"\n{line}"
    findings = tuple(line for line in lines if "check" in line)
    ends = [line for line in lines if "checked" in line]
    if not ends:
        said = next((line for line in reversed(errors.splitlines()) if line.strip()), "nothing")
        return Diagnosis(
            name, findings, problem=f"it ended with code {code}; its last line is: {redacted(said)}"
        )
    return Diagnosis(name, findings, tuple(ends[-1]["checked"]), ends[-1]["seconds"])


def _with_problem(diagnosis: Diagnosis) -> Diagnosis:
    if not diagnosis.problem:
        return diagnosis
    finding = {
        "process": diagnosis.process,
        "check": "environment.diagnosis",
        "severity": "CRITICAL",
        "observed": f"the checks of {diagnosis.process} could not be run: {diagnosis.problem}",
        "expected": "",
        "row": {},
        "evidence": {},
        "means": "Nothing is known of the environment of this process.",
        "action": f"Run `python -m {diagnosis.process} diagnose` in its environment.",
    }
    return Diagnosis(diagnosis.process, (*diagnosis.findings, finding), problem=diagnosis.problem)


def stack_stopped(folder: Path) -> Finding:
    """That no stack runs on this folder, which explains most of the rest."""
    return _finding(
        "environment.stack_runs",
        "CRITICAL",
        f"no stack runs on {folder}",
        "a supervisor that keeps all processes running",
        means="Nothing of the stack answers.",
        action=f"homeroom up --data {folder}; if it ends again, read {folder}/logs.",
    )


def clocks_apart(diagnoses: Sequence[Diagnosis]) -> list[Finding]:
    """Databases whose clocks differ, measured against the clock of this machine."""
    offsets = {
        each.process: (float(evidence["offset_seconds"]), float(evidence["uncertainty_seconds"]))
        for each in diagnoses
        for finding in each.findings
        if "offset_seconds" in (evidence := finding.get("evidence", {}))
    }
    found = []
    for one, other in combinations(sorted(offsets), 2):
        apart = abs(offsets[one][0] - offsets[other][0])
        if apart - offsets[one][1] - offsets[other][1] > CLOCK_SECONDS_MAX:
            found.append(
                _finding(
                    "environment.clocks_agree",
                    "HIGH",
                    f"the clocks of the databases of {one} and {other} are {apart:.1f} s apart",
                    f"at most {CLOCK_SECONDS_MAX:g} s",
                    means="What one service has counted is too early or too late for the other.",
                    action="Synchronize the database servers with NTP.",
                )
            )
    return found


def databases_shared(diagnoses: Sequence[Diagnosis]) -> list[Finding]:
    """Databases that more than one service uses."""
    users = defaultdict(list)
    for each in diagnoses:
        for finding in each.findings:
            if finding["check"] == "environment.database_reachable" and "database" in finding["evidence"]:
                users[finding["evidence"]["database"]].append(each.process)
    return [
        _finding(
            "environment.databases_apart",
            "CRITICAL",
            f"{' and '.join(processes)} use the same database, {database}",
            "a database for each service",
            means="The services overwrite the tables that they share by name.",
            action="Correct HOMEROOM_DATABASE_URL.",
        )
        for database, processes in users.items()
        if len(processes) > 1
    ]


def tokens_apart(configured: Sequence[Configured]) -> list[Finding]:
    """Processes with another service token than the rest; tokens are compared, and never shown."""
    holders = defaultdict(list)
    for each in configured:
        token = _token_of(each)
        if token is not None:
            holders[token].append(each.service.package)
    if len(holders) <= 1:
        return []
    groups = " | ".join(sorted(", ".join(sorted(names)) for names in holders.values()))
    return [
        _finding(
            "environment.service_tokens_agree",
            "CRITICAL",
            f"these processes have different service tokens: {groups}",
            "one token for all processes",
            means="A process refuses the calls of those that have another token.",
            action=f"Give all of them the same {_TOKEN}.",
        )
    ]


def _token_of(configured: Configured) -> str | None:
    text = configured.environment.get(_TOKEN, "").strip()
    path = configured.environment.get(f"{_TOKEN}_FILE", "").strip()
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None  # the process itself tells that the file cannot be read
    return text or None


def _finding(check: str, severity: str, observed: str, expected: str, *, means: str, action: str) -> Finding:
    return {
        "check": check,
        "severity": severity,
        "observed": observed,
        "expected": expected,
        "row": {},
        "evidence": {},
        "means": means,
        "action": action,
    }
