"""What the gateway needs around it: keys that tokens can be checked with."""

from __future__ import annotations

import stat
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from chassis.diagnostics.environment import Environment, EnvironmentCheck, Probe, Seen
from chassis.diagnostics.findings import Severity
from chassis.process.config import Mode
from gateway.config import is_url
from gateway.signing_keys import JwksError, PrivateKeysError, read_file, read_url, usable_keys

# Keys that never change give whoever has one of them all the time.
KEYS_DAYS_MAX = 400.0
# A cache in front of an identity provider that keeps a JWKS for longer hides new keys.
CACHED_SECONDS_MAX = 3600.0
_DAY_SECONDS = 86_400


async def look_usable(probe: Probe) -> list[Seen]:
    jwks = _jwks(probe.environment)
    try:
        document = (await read_url(jwks)).body if is_url(jwks) else await read_file(Path(jwks))
        keys = usable_keys(document, public_only=False)
    except JwksError as error:
        return [Seen(Severity.CRITICAL, str(error), "public keys for RS256 or ES256")]
    found = [Seen(Severity.INFO, f"{len(keys)} keys: {', '.join(key.key_id or '(no id)' for key in keys)}")]
    try:
        usable_keys(document, public_only=True)
    except PrivateKeysError as error:
        refused = probe.environment.settings.get("mode") is Mode.PRODUCTION
        found.append(Seen(Severity.CRITICAL if refused else Severity.HIGH, str(error), "only public keys"))
    return found


async def look_protected(probe: Probe) -> list[Seen]:
    path = Path(_jwks(probe.environment))
    found = []
    for each, who in ((path, "the file"), (path.parent, "its folder")):
        mode = each.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            severity, writers = Severity.HIGH, "everybody"
        elif mode & stat.S_IWGRP and each is path:
            severity, writers = Severity.MEDIUM, "its group"
        else:
            continue
        found.append(
            Seen(
                severity,
                f"{writers} may write {who}: mode {stat.S_IMODE(mode):04o}",
                "only the owner may write",
                row={"path": str(each)},
            )
        )
    return found


async def look_fresh(probe: Probe) -> list[Seen]:
    jwks = _jwks(probe.environment)
    if is_url(jwks):
        try:
            age = (await read_url(jwks)).age_seconds
        except JwksError:
            return []  # `jwks_usable` tells it
        if age <= CACHED_SECONDS_MAX:
            return []
        return [
            Seen(
                Severity.MEDIUM,
                f"a cache on the way has had the keys for {age / 3600:.0f} h",
                f"at most {CACHED_SECONDS_MAX / 3600:.0f} h, or new keys are not seen",
            )
        ]
    days = (time.time() - Path(jwks).stat().st_mtime) / _DAY_SECONDS  # noqa: ASYNC240 - one look at one file
    if days > KEYS_DAYS_MAX:
        return [Seen(Severity.LOW, f"the keys are {days:.0f} days old", f"at most {KEYS_DAYS_MAX:.0f} days")]
    if days < -1:
        return [Seen(Severity.LOW, "the file is from the future", "a clock that is right")]
    return []


def _jwks(environment: Environment) -> str:
    return str(environment.settings.get("jwks", ""))


def _known(environment: Environment) -> bool:
    return bool(_jwks(environment))


def _a_file(environment: Environment) -> bool:
    return _known(environment) and Path(_jwks(environment)).exists() and not is_url(_jwks(environment))


def _there(environment: Environment) -> bool:
    return _known(environment) and (is_url(_jwks(environment)) or Path(_jwks(environment)).exists())


def _check(
    name: str,
    severity: Severity,
    *,
    means: str,
    action: str,
    look: Callable[[Probe], Awaitable[Iterable[Seen]]],
    applies: Callable[[Environment], bool],
) -> EnvironmentCheck:
    return EnvironmentCheck(f"environment.{name}", severity, means, action, look, applies=applies)


ENVIRONMENT_CHECKS: tuple[EnvironmentCheck, ...] = (
    _check(
        "jwks_usable",
        Severity.CRITICAL,
        means="Without keys no token can be checked, so every learner is refused.",
        action="Correct HOMEROOM_JWKS, or mend what it names.",
        look=look_usable,
        applies=_known,
    ),
    _check(
        "jwks_protected",
        Severity.HIGH,
        means="Whoever can write the file can make tokens for everybody.",
        action="chmod 644 for the file, 755 for its folder.",
        look=look_protected,
        applies=_a_file,
    ),
    _check(
        "jwks_fresh",
        Severity.MEDIUM,
        means="Tokens that are signed with new keys are refused, or old keys are good for too long.",
        action="Rotate the keys of your identity provider; look at the caches in front of it.",
        look=look_fresh,
        applies=_there,
    ),
)
