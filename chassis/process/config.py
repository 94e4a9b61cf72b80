"""Configuration: one frozen object per process, read once from the environment, with all problems at once."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from chassis.addresses import split_host_port
from chassis.diagnostics.findings import Severity
from chassis.telemetry.logs import LogLevel

PREFIX = "HOMEROOM_"
FILE_SUFFIX = "_FILE"
SERVICE_TOKEN_LENGTH_MIN = 16
TLS_FILES = ("tls_certificate", "tls_key", "tls_ca")

T = TypeVar("T")


class ConfigError(Exception):
    """The environment has no usable configuration; `problems` has one sentence for each problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("Homeroom cannot start:\n" + "\n".join(f"  - {problem}" for problem in problems))


class Mode(StrEnum):
    """Production or development. Development allows unsafe settings; production is the default."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"


class Secret:
    """A string that `repr`, `str`, logs and tracebacks do not show; only `reveal()` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def rules(
    *,
    means: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    check: Callable[[Any], str | None] | None = None,
) -> dict[str, Any]:
    """The `metadata` of a configuration field.

    `means` is shown when the variable is missing. `check` returns what is wrong with a value, or None.
    """
    return {"means": means, "minimum": minimum, "maximum": maximum, "check": check}


def check_address(address: str) -> str | None:
    """What is wrong with a host:port, or None: for `rules(check=...)`."""
    try:
        split_host_port(address)
    except ValueError as error:
        return str(error)
    return None


def check_http_url(url: str) -> str | None:
    """What is wrong with an http(s) URL, or None: for `rules(check=...)`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    return None if usable else f"{url!r} is not an http:// or https:// URL"


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """The configuration of every process. A process that needs more adds fields in a subclass."""

    mode: Mode = Mode.PRODUCTION
    bind: str = field(metadata=rules(means="host:port to serve on", check=check_address))
    ops_bind: str = field(
        metadata=rules(means="host:port of /livez /readyz /version /metrics", check=check_address)
    )
    service_token: Secret | None = None
    trace_sample_ratio: float = field(default=0.01, metadata=rules(minimum=0.0, maximum=1.0))
    trace_file: Path | None = None
    otlp_endpoint: str | None = field(default=None, metadata=rules(check=check_http_url))
    log_level: LogLevel = LogLevel.INFO
    failpoints_dir: Path | None = None
    # PEM files for mutual TLS between the processes: all three, or none.
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None

    @classmethod
    def problems(cls, given: Mapping[str, Any]) -> Iterator[str]:
        """The problems between fields; `given` has only the fields that could be read.

        A subclass with rules of its own also yields from `super().problems(given)`.
        """
        missing = [PREFIX + name.upper() for name in TLS_FILES if given.get(name) is None]
        if 0 < len(missing) < len(TLS_FILES):
            yield f"{' and '.join(missing)} must be set as well: TLS needs a certificate, its key and a CA"
        if given.get("mode") is Mode.PRODUCTION:
            token = given.get("service_token", MISSING)
            if token is None:
                yield (
                    f"{PREFIX}SERVICE_TOKEN is missing: set it to the secret that the four processes share "
                    f"(or {PREFIX}SERVICE_TOKEN{FILE_SUFFIX} to the path of a file that holds it), or set "
                    f"{PREFIX}MODE=development on your own machine"
                )
            elif isinstance(token, Secret) and len(token.reveal()) < SERVICE_TOKEN_LENGTH_MIN:
                yield (
                    f"{PREFIX}SERVICE_TOKEN is shorter than {SERVICE_TOKEN_LENGTH_MIN} characters: "
                    "make one with `openssl rand -hex 32`"
                )
            if given.get("failpoints_dir") is not None:
                yield (
                    f"{PREFIX}FAILPOINTS_DIR is set in production mode, but failpoints are for development "
                    f"only: unset it, or set {PREFIX}MODE=development"
                )

    @classmethod
    def doubts(cls, given: Mapping[str, Any]) -> Iterator[Doubt]:
        """What contradicts itself although it is accepted, beside what `chassis/process/doubts.py` sees in
        every process. The arguments are those of `problems`.
        """
        del given
        yield from ()


@dataclass(frozen=True, kw_only=True)
class ServiceConfig(ProcessConfig):
    """The configuration of a gRPC service: in addition, its database."""

    database_url: Secret = field(
        metadata=rules(means="the PostgreSQL URI of the role that reads and writes rows")
    )
    database_connections_max: int = field(default=8, metadata=rules(minimum=2, maximum=200))
    # Prepared statements that each connection keeps. It must be 0 behind a pgbouncer in transaction mode that
    # does not support prepared statements: before 1.21, or with `max_prepared_statements = 0`.
    database_statement_cache: int = field(default=256, metadata=rules(minimum=0, maximum=10_000))
    # With mutual TLS: the names in the certificates of those who may call this service.
    tls_peers: tuple[str, ...] = ()
    # It must be longer than any client retries: once a key is deleted, the same request has its effect again.
    idempotency_retention_days: float = field(default=7.0, metadata=rules(minimum=1, maximum=3650))
    # How often the service runs each of its checks by itself.
    check_interval_hours: float = field(default=6.0, metadata=rules(minimum=0.01, maximum=8760))
    # Where PostgreSQL keeps its data, if that is a disk of this machine: its free space is checked.
    database_folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class MigrationConfig:
    """The configuration of the `migrate` command, which brings a service's database to its schema."""

    migration_database_url: Secret = field(
        metadata=rules(means="the PostgreSQL URI of the role that owns the tables")
    )
    log_level: LogLevel = LogLevel.INFO


class Doubt(NamedTuple):
    """What a process accepts, although it is hardly meant; `text` has the sentence that is shown."""

    severity: Severity
    text: str


class Reading(NamedTuple):
    """What an environment says: the fields that could be read, and one sentence for each problem."""

    given: Mapping[str, Any]
    problems: tuple[str, ...]


def load(cls: type[T], environ: Mapping[str, str]) -> T:
    """Read a frozen dataclass from `HOMEROOM_<FIELD>` variables. Raises ConfigError with every problem.

    An empty variable counts as unset. `HOMEROOM_<FIELD>_FILE` may give a Secret: it is the path of a file
    with the secret. Variables without a field are ignored, because processes share an environment.
    """
    given, problems = read(cls, environ)
    if problems:
        raise ConfigError(list(problems))
    return cls(**given)


def read(cls: type[Any], environ: Mapping[str, str]) -> Reading:
    """Read what `load` would read, as far as that is possible."""
    if not is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not a dataclass")
    hints = get_type_hints(cls)
    problems: list[str] = []
    given: dict[str, Any] = {}
    for each in fields(cls):
        try:
            given[each.name] = _read(each, hints[each.name], environ)
        except _ProblemError as problem:
            problems.append(str(problem))
    between_fields = getattr(cls, "problems", None)
    if between_fields is not None:
        problems += between_fields(given)
    return Reading(given, tuple(problems))


class _ProblemError(Exception):
    """One variable cannot be used; the message is the sentence that is shown."""


def _read(each: Field[Any], hint: Any, environ: Mapping[str, str]) -> Any:
    variable = PREFIX + each.name.upper()
    kind = _without_none(hint)
    text, source = _text_of(variable, environ, may_be_file=kind is Secret)
    if text is None:
        if each.default is not MISSING:
            return each.default
        means = each.metadata.get("means", "")
        also = f" (or {variable}{FILE_SUFFIX}, the path of a file that holds it)" if kind is Secret else ""
        raise _ProblemError(f"{variable} is missing: set it{also}" + (f" to {means}" if means else ""))
    try:
        value = _parse(kind, text)
    except ValueError as error:
        raise _ProblemError(f"{source} {error}") from None
    _check_bounds(source, value, each.metadata)
    check = each.metadata.get("check")
    complaint = check(value) if check is not None else None
    if complaint:
        raise _ProblemError(f"{source} cannot be used: {complaint}")
    return value


def _text_of(variable: str, environ: Mapping[str, str], *, may_be_file: bool) -> tuple[str | None, str]:
    """The text for a variable, and the name of the variable that gave it."""
    text = environ.get(variable, "").strip() or None
    file_variable = variable + FILE_SUFFIX
    path = environ.get(file_variable, "").strip() if may_be_file else ""
    if not path:
        return text, variable
    if text is not None:
        raise _ProblemError(f"{variable} and {file_variable} are both set: keep one of them")
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise _ProblemError(f"{file_variable} names {path!r}, which cannot be read: {why}") from None
    if not text:
        raise _ProblemError(f"{file_variable} names {path!r}, which is empty: put the secret into it")
    return text, file_variable


def _without_none(hint: Any) -> Any:
    """The type X of `X | None`: a field of that type may be left unset."""
    if get_origin(hint) in {Union, types.UnionType}:
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if len(kinds) == 1:
            return kinds[0]
    return hint


def _parse(kind: Any, text: str) -> Any:  # noqa: PLR0911 — one return per supported type is the table it looks like
    """The text as the field's type. The text of a ValueError continues the sentence "<variable> …"."""
    if kind is str:
        return text
    if kind is Secret:
        return Secret(text)
    if kind is int:
        return _parse_number(int, text, "a whole number")
    if kind is float:
        return _parse_number(float, text, "a number")
    if kind is Path:
        return Path(text).expanduser()
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _parse_choice(kind, text)
    if get_origin(kind) is tuple and get_args(kind) == (str, ...):
        return tuple(part for part in (part.strip() for part in text.split(",")) if part)
    raise TypeError(f"a configuration field cannot be of type {kind!r}")


def _parse_number(kind: type[int | float], text: str, called: str) -> int | float:
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(f"is {text!r}, which is not {called}") from None
    if not math.isfinite(number):
        raise ValueError(f"is {text!r}, which is not {called}")
    return number


def _parse_choice(kind: type[Enum], text: str) -> Enum:
    choices = {str(member.value).lower(): member for member in kind}
    member = choices.get(text.lower())
    if member is None:
        raise ValueError(f"is {text!r}: choose one of {', '.join(choices)}")
    return member


def _check_bounds(source: str, value: Any, bounds: Mapping[str, Any]) -> None:
    minimum, maximum = bounds.get("minimum"), bounds.get("maximum")
    if minimum is not None and value < minimum:
        raise _ProblemError(f"{source} is {value}: it must be at least {minimum}")
    if maximum is not None and value > maximum:
        raise _ProblemError(f"{source} is {value}: it must be at most {maximum}")
