"""How the environment of a process is checked: all checks side by side, each within its own time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from chassis.cache.inspection import RedisFacts, inspect
from chassis.diagnostics.findings import (
    EVIDENCE_ENTRIES_MAX,
    TEXT_CHARACTERS_MAX,
    Finding,
    Severity,
)
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.rpc.tls import TlsFiles
from chassis.telemetry.redaction import HIDDEN, redacted

# Few: a service that serves has other use for those of its pool, and a full server has not many more.
CONNECTIONS_MAX = 2
APPLICATION_SUFFIX = " diagnose"
FINDINGS_PER_CHECK_MAX = 50
# A shorter text occurs in others by chance.
_SECRET_LENGTH_MIN = 6

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a measured value is a finding."""

    open_seconds_max: float = 2.0
    """How long a database or a Redis may take to answer at all."""
    check_seconds_max: float = 3.0
    """How long one check may take after that."""
    round_trip_ms_medium: float = 10.0
    round_trip_ms_high: float = 100.0
    clock_seconds_medium: float = 2.0
    clock_seconds_high: float = 30.0
    transaction_seconds_medium: float = 60.0
    transaction_seconds_high: float = 600.0
    snapshot_age_max: int = 1_000_000
    """Transactions that have begun since the snapshot of a session whose times the role may not see."""
    transaction_age_medium: int = 500_000_000
    """Of a database: transactions since its rows were last frozen. PostgreSQL stops at 2,100,000,000."""
    transaction_age_high: int = 1_000_000_000
    transaction_age_critical: int = 1_900_000_000
    disk_bytes_medium: int = 5 * 1024**3
    disk_bytes_high: int = 1024**3
    disk_bytes_critical: int = 256 * 1024**2
    redis_ms_low: float = 10.0
    redis_ms_medium: float = 50.0
    """After this time, reads of the cache give up."""
    redis_used_share_max: float = 0.8
    """Of the memory of a Redis that evicts nothing."""
    certificate_days_medium: float = 14.0
    certificate_days_high: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a process needs around it, as its configuration names it.

    `settings` has the configuration's fields that could be read; `problems` says why the process refuses the
    configuration, `doubts` what contradicts itself although the process accepts it. While a service runs it
    gives its open `database`; otherwise `database_url` is connected to.
    """

    process: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = ()
    doubts: tuple[tuple[Severity, str], ...] = ()
    database_url: str | None = field(default=None, repr=False)
    database: Database | None = None
    database_connections_max: int = 8
    statement_cache: int = 256
    migrations: Mapping[str, Path] = field(default_factory=dict)
    redis_url: str | None = field(default=None, repr=False)
    database_folder: Path | None = None
    tls: TlsFiles | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that no finding may show."""
    limits: Limits = Limits()

    @property
    def has_database(self) -> bool:
        return self.database is not None or self.database_url is not None


class Need(StrEnum):
    """What a check asks. While it does not answer, the check is not run."""

    DATABASE = "database"
    REDIS = "redis"

    @property
    def called(self) -> str:
        """Its name in a sentence."""
        return "Redis" if self is Need.REDIS else "the database"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check has seen: a finding without the name of the check."""

    severity: Severity
    observed: str
    expected: str = ""
    row: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnvironmentCheck:
    """One check, as data.

    Args:
        id: the stable name, `environment.<what>`.
        severity: the worst that it finds.
        means: what a finding means, in one sentence.
        action: what a person does about it.
        look: returns what it has seen; INFO for a fact that is as it must be.
        needs: what it asks; it is not run without.
        opens: what it opens for those that need it.
        unable: the severity when it cannot be run.
        applies: whether there is something to check.
        about: what is asked, as evidence when it does not answer.
    """

    id: str
    severity: Severity
    means: str
    action: str
    look: Callable[[Probe], Awaitable[Iterable[Seen]]]
    needs: Need | None = None
    opens: Need | None = None
    unable: Severity = Severity.MEDIUM
    applies: Callable[[Environment], bool] = lambda _: True
    about: Callable[[Environment], Mapping[str, str]] = lambda _: {}


class Probe:
    """What the checks of one run share: the environment, and what it takes to ask it."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._database = environment.database
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._redis: RedisFacts | None = None
        self._opened: dict[Need, asyncio.Future[bool]] = {}

    @property
    def limits(self) -> Limits:
        return self.environment.limits

    @property
    def redis(self) -> RedisFacts:
        """What Redis says of itself, once it has answered."""
        if self._redis is None:
            raise ConnectionError("Redis has not answered")
        return self._redis

    async def open_database(self) -> None:
        """Make `rows` possible. Raises DatabaseUnavailable."""
        if self._database is not None:
            await self._database.ping()
            return
        self._database = await Database.connect(
            self.environment.database_url or "",
            maximum=CONNECTIONS_MAX,
            application_name=f"{self.environment.process}{APPLICATION_SUFFIX}",
            statement_cache_size=self.environment.statement_cache,
        )

    async def open_redis(self) -> RedisFacts:
        """Ask Redis about itself. Raises an exception of redis-py or OSError."""
        self._redis = await inspect(self.environment.redis_url or "", self.limits.open_seconds_max)
        return self._redis

    async def rows(self, sql: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """The rows of a statement that changes nothing; they are read outside a transaction."""

        async def work(connection: Connection) -> list[Mapping[str, Any]]:
            return [dict(row) for row in await connection.fetch(sql, *arguments)]

        return await self.ask(work)

    async def row(self, sql: str, *arguments: object) -> Mapping[str, Any]:
        """The only row of a statement."""
        (row,) = await self.rows(sql, *arguments)
        return row

    async def ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What the work returns, with one of the few connections."""
        if self._database is None:
            raise ConnectionError("the database has not answered")
        async with self._turns:
            deadline = time.monotonic() + self.limits.check_seconds_max
            return await self._database.read(work, deadline=deadline, name="diagnose")

    def will_open(self, need: Need) -> None:
        self._opened[need] = asyncio.get_running_loop().create_future()

    def opened(self, need: Need, *, well: bool) -> None:
        self._opened[need].set_result(well)

    async def has(self, need: Need) -> bool:
        """Whether this answers; waits until that is known."""
        return need in self._opened and await self._opened[need]

    async def close(self) -> None:
        if self._database is not None and self.environment.database is None:
            await self._database.close()


async def run_checks(environment: Environment, checks: Sequence[EnvironmentCheck]) -> list[Finding]:
    """What these checks find, in their order. Never raises, whatever is wrong; takes about five seconds at
    most.
    """
    probe = Probe(environment)
    applicable = [check for check in checks if check.applies(environment)]
    for check in applicable:
        if check.opens is not None:
            probe.will_open(check.opens)
    try:
        results = await asyncio.gather(*(_run(check, probe, applicable) for check in applicable))
    finally:
        await probe.close()
    clean = partial(_clean, secrets=_secrets(environment))
    return [clean(finding) for findings in results for finding in findings]


async def _run(check: EnvironmentCheck, probe: Probe, checks: Sequence[EnvironmentCheck]) -> list[Finding]:
    environment = probe.environment
    if check.needs is not None and not await probe.has(check.needs):
        return []  # the finding of the check that opens it names those that were not run
    limit = probe.limits.check_seconds_max if check.opens is None else probe.limits.open_seconds_max
    well = False
    try:
        async with asyncio.timeout(limit):
            seen = list(await check.look(probe))
        well = True
    except Exception as error:  # noqa: BLE001 - a check that cannot be run is a finding, whatever the reason
        seen = [_unable(check, error, limit, check.about(environment))]
    finally:
        if check.opens is not None:
            probe.opened(check.opens, well=well)
    if not well and check.opens is not None:
        skipped = ", ".join(each.id for each in checks if each.needs is check.opens)
        seen = [replace(each, evidence={**each.evidence, "not_checked": skipped}) for each in seen]
    if len(seen) > FINDINGS_PER_CHECK_MAX:
        left = len(seen) - FINDINGS_PER_CHECK_MAX
        worst = max(each.severity for each in seen[FINDINGS_PER_CHECK_MAX:])
        seen = [*seen[:FINDINGS_PER_CHECK_MAX], Seen(worst, f"{left} more of this kind are not listed")]
    return [
        Finding(
            check=check.id,
            severity=each.severity,
            observed=each.observed,
            expected=each.expected,
            row=each.row,
            evidence=each.evidence,
        )
        for each in seen
    ]


def _unable(check: EnvironmentCheck, error: Exception, limit: float, about: Mapping[str, str]) -> Seen:
    why = told(error, limit)
    if check.opens is not None:
        return Seen(check.unable, f"{check.opens.called} cannot be used: {why}", "it answers", evidence=about)
    return Seen(check.unable, f"the check could not be run: {why}", "the check can be run", evidence=about)


def told(error: Exception, limit_seconds: float) -> str:
    """What an error says to a person."""
    if isinstance(error, TimeoutError):
        return f"there was no answer within {limit_seconds:g} s"
    if isinstance(error, ServiceError):
        return error.detail
    return f"{type(error).__name__}: {error}"


def _secrets(environment: Environment) -> tuple[str, ...]:
    """What must not be shown: secrets, and the passwords in addresses, also as they are quoted there."""
    found = set(environment.secrets)
    for url in (environment.database_url, environment.redis_url):
        try:
            password = urlsplit(url or "").password or ""
        except ValueError:
            password = url or ""
        found |= {password, unquote(password)}
    return tuple(sorted((each for each in found if len(each) >= _SECRET_LENGTH_MIN), key=len, reverse=True))


def _clean(finding: Finding, *, secrets: tuple[str, ...]) -> Finding:
    """The finding without a secret, and within its bounds."""

    def text(value: str) -> str:
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return redacted(value)[:TEXT_CHARACTERS_MAX]

    def texts(values: Mapping[str, str]) -> dict[str, str]:
        return {name: text(value) for name, value in list(values.items())[:EVIDENCE_ENTRIES_MAX]}

    return replace(
        finding,
        observed=text(finding.observed),
        expected=text(finding.expected),
        row=texts(finding.row),
        evidence=texts(finding.evidence),
    )


def sql_check(
    check_id: str,
    *,
    severity: Severity,
    means: str,
    action: str,
    sql: str,
    observed: str,
    expected: str,
) -> EnvironmentCheck:
    """A check of a service's own: a statement without arguments that returns whether all is well."""

    async def look(probe: Probe) -> list[Seen]:
        row = await probe.row(sql)
        return [] if next(iter(row.values())) else [Seen(severity, observed, expected)]

    return EnvironmentCheck(
        check_id, severity, means, action, look, needs=Need.DATABASE, applies=lambda each: each.has_database
    )
