"""Runs the checks of a deployment's services over its HTTP API, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeroom.api import ApiError
from homeroom.diagnostics_api import DiagnosticsApi
from homeroom.findings import Finding

FINDINGS_MAX = 10_000
"""A run shows no more; a school with so many has one fault in many rows."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How the run of one check ended."""

    service: str
    check: str
    walked: int
    findings: int
    seconds: float
    problem: str


@dataclass(slots=True)
class SchoolDiagnosis:
    """What all services have found."""

    findings: list[Finding] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Services that could not be asked to the end, and why."""
    is_cut: bool = False
    """Whether there were more findings than FINDINGS_MAX."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: these checks (empty: all), for one learner (empty: all), from a severity on."""

    checks: Sequence[str]
    user_id: str
    min_severity: str


Tell = Callable[[str, dict[str, Any]], object]
"""Is told the service, and its progress, after each step."""


async def diagnose_school(
    api: DiagnosticsApi, services: Sequence[str], question: Question, *, tell: Tell
) -> SchoolDiagnosis:
    """The findings of these services. What one of them cannot answer is a problem of the result."""
    diagnosis = SchoolDiagnosis()
    seen: set[tuple[object, ...]] = set()

    async def ask(service: str) -> None:
        checks = [each for each in question.checks if each.partition(".")[0] in {service, "environment"}]
        if question.checks and not checks:
            return
        try:
            about = {each["checkId"]: each for each in (await api.checks(service))["checks"]}
            async for name, told in api.run(
                service, checks=checks, user_id=question.user_id, min_severity=question.min_severity
            ):
                if name == "progress":
                    tell(service, told)
                    if told.get("done"):
                        diagnosis.checks.append(_result(service, told))
                    continue
                finding = _finding(service, told, about.get(told["checkId"], {}))
                key = _key(finding)
                if key in seen:
                    continue
                if len(diagnosis.findings) == FINDINGS_MAX:
                    diagnosis.is_cut = True
                    return
                seen.add(key)
                diagnosis.findings.append(finding)
        except ApiError as error:
            diagnosis.problems.append(f"{service}: {error}")

    await asyncio.gather(*map(ask, services))
    return diagnosis


def _finding(service: str, told: dict[str, Any], about: dict[str, Any]) -> Finding:
    repairs = [each["repairId"] for each in about.get("repairs", [])]
    action = f"homeroom repair plan {told['checkId']} --reason …" if repairs else about.get("advice", "")
    return {
        "check": told["checkId"],
        "severity": told["severity"],
        "service": service,
        "process": f"{service}_service" if told["checkId"].startswith("environment.") else "",
        "userId": told.get("userId", ""),
        "row": told.get("row", {}),
        "observed": told.get("observed", ""),
        "expected": told.get("expected", ""),
        "since": told.get("since", ""),
        "evidence": told.get("evidence", {}),
        "means": about.get("meaning", ""),
        "action": action,
    }


def _key(finding: Finding) -> tuple[object, ...]:
    return (
        finding["service"],
        finding["check"],
        finding["userId"],
        tuple(sorted(finding["row"].items())),
        finding["observed"],
    )


def _result(service: str, told: dict[str, Any]) -> CheckResult:
    return CheckResult(
        service=service,
        check=told["checkId"],
        walked=int(told.get("walked", 0)),
        findings=int(told.get("findings", 0)),
        seconds=float(told.get("seconds", 0.0)),
        problem=told.get("problem", ""),
    )
