"""What is accepted as the configuration of any process, although it is hardly meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any
from urllib.parse import unquote, urlsplit

from chassis.addresses import split_host_port
from chassis.diagnostics.findings import Severity
from chassis.process.config import PREFIX, Doubt, Mode, ProcessConfig, Secret

# A token of random characters has more different ones.
SERVICE_TOKEN_CHARACTERS_MIN = 8
GUESSED_SECRETS = frozenset(
    {
        "admin",
        "changeme",
        "change-me",
        "example",
        "homeroom",
        "password",
        "postgres",
        "root",
        "secret",
        "test",
    }
)
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})


def doubts_of(config: type[ProcessConfig], given: Mapping[str, Any]) -> tuple[Doubt, ...]:
    """All doubts about the fields that could be read."""
    doubts = [*_doubts_of_addresses(given), *config.doubts(given)]
    if given.get("mode") is Mode.PRODUCTION:
        doubts += [*_doubts_of_secrets(given), *_doubts_of_networks(given)]
    else:
        doubts += _doubts_of_development(given)
    return tuple(doubts)


def _doubts_of_addresses(given: Mapping[str, Any]) -> Iterator[Doubt]:
    """Two listeners on one address; targets that are this process itself, or one another."""
    own = {name: split_host_port(given[name]) for name in ("bind", "ops_bind") if name in given}
    targets = {name: split_host_port(value) for name, value in given.items() if name.endswith("_target")}
    if len(own) == 2 and _meet(own["bind"], own["ops_bind"]):
        yield Doubt(
            Severity.CRITICAL, f"{PREFIX}BIND and {PREFIX}OPS_BIND are the same address: {given['bind']}"
        )
    for name, target in targets.items():
        for listener, address in own.items():
            if _meet(address, target):
                variables = f"{PREFIX}{name.upper()} and {PREFIX}{listener.upper()}"
                yield Doubt(Severity.HIGH, f"{variables} are the same address: the process would call itself")
    for one, other in combinations(sorted(targets), 2):
        if targets[one] == targets[other] and targets[one][1]:
            yield Doubt(
                Severity.HIGH,
                f"{PREFIX}{one.upper()} and {PREFIX}{other.upper()} are the same address: {given[one]}",
            )


def _doubts_of_secrets(given: Mapping[str, Any]) -> Iterator[Doubt]:
    """Secrets that anybody guesses; they are named by their variable, never shown."""
    url = given.get("database_url")
    if isinstance(url, Secret):
        try:
            parts = urlsplit(url.reveal())
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
        except ValueError:
            user, password = "", ""
        if password and (password.lower() in GUESSED_SECRETS or password == user):
            yield Doubt(
                Severity.HIGH,
                f"{PREFIX}DATABASE_URL has a password that is easily guessed: "
                "make one with `openssl rand -hex 24`",
            )
    token = given.get("service_token")
    if isinstance(token, Secret) and len(set(token.reveal())) < SERVICE_TOKEN_CHARACTERS_MIN:
        yield Doubt(
            Severity.HIGH,
            f"{PREFIX}SERVICE_TOKEN is easily guessed: make one with `openssl rand -hex 32`",
        )


def _doubts_of_networks(given: Mapping[str, Any]) -> Iterator[Doubt]:
    """What is right on a private network only; whether it is private cannot be seen from here."""
    away = [
        value
        for name, value in given.items()
        if name.endswith("_target") and split_host_port(value)[0] not in _THIS_MACHINE
    ]
    if away and given.get("tls_certificate") is None:
        yield Doubt(
            Severity.INFO,
            f"calls to {', '.join(away)} are plain text: their network must be private, or set "
            f"{PREFIX}TLS_CERTIFICATE, {PREFIX}TLS_KEY and {PREFIX}TLS_CA",
        )


def _doubts_of_development(given: Mapping[str, Any]) -> Iterator[Doubt]:
    """Development mode where others can reach the process."""
    host = split_host_port(given["bind"])[0] if "bind" in given and "mode" in given else "localhost"
    if host not in _THIS_MACHINE:
        yield Doubt(
            Severity.HIGH,
            f"{PREFIX}MODE is development, which allows unsafe settings, and "
            f"{PREFIX}BIND is {given['bind']}, which other machines may reach",
        )


def _meet(listener: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether a connection to `other` reaches the listener; port 0 is any free port."""
    (host, port), (other_host, other_port) = listener, other
    if port != other_port or port == 0:
        return False
    return host == other_host or (host in _EVERY_INTERFACE and other_host in _EVERY_INTERFACE | _THIS_MACHINE)
