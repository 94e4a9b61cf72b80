"""A Redis as the cache and the rate limits need it: it answers soon, and drops old values itself."""

from __future__ import annotations

from urllib.parse import urlsplit

from chassis.diagnostics.environment.checking import Probe, Seen
from chassis.diagnostics.findings import Severity

_MIB = 1024 * 1024


def address_of(url: str | None) -> str:
    """Where a Redis is, without its password; empty if that cannot be read."""
    try:
        parts = urlsplit(url or "")
        if "@" in parts.path + parts.query + parts.fragment:
            return ""  # a part of a password that is not quoted
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    return parts.path if host is None else f"{host}:{port or 6379}"


async def look_reachable(probe: Probe) -> list[Seen]:
    facts = await probe.open_redis()
    limits = probe.limits
    return [
        Seen(
            Severity.INFO,
            f"Redis {facts.version} answers in {facts.latency_ms:.1f} ms",
            f"at most {limits.redis_ms_low:g} ms",
            evidence={"latency_ms": f"{facts.latency_ms:.2f}", "version": facts.version},
        )
    ]


async def look_latency(probe: Probe) -> list[Seen]:
    latency_ms, limits = probe.redis.latency_ms, probe.limits
    if latency_ms <= limits.redis_ms_low:
        return []
    severity = Severity.MEDIUM if latency_ms > limits.redis_ms_medium else Severity.LOW
    return [Seen(severity, f"Redis answers in {latency_ms:.1f} ms", f"at most {limits.redis_ms_low:g} ms")]


async def look_eviction(probe: Probe) -> list[Seen]:
    facts = probe.redis
    if facts.policy != "noeviction":
        return []
    if facts.memory_max == 0:
        return [
            Seen(
                Severity.LOW,
                "Redis has no maxmemory, so it may take all memory of its machine",
                "maxmemory, and maxmemory-policy allkeys-lru",
            )
        ]
    return [
        Seen(
            Severity.MEDIUM,
            "the policy is noeviction: a full Redis refuses writes",
            "maxmemory-policy allkeys-lru",
        )
    ]


async def look_memory(probe: Probe) -> list[Seen]:
    facts = probe.redis
    evidence = {
        "used_bytes": str(facts.memory_used),
        "maximum_bytes": str(facts.memory_max),
        "evicted_keys": str(facts.evicted_keys),
    }
    observed = f"Redis uses {facts.memory_used / _MIB:.0f} MiB" + (
        f" of {facts.memory_max / _MIB:.0f} MiB" if facts.memory_max else ""
    )
    full = facts.memory_max and facts.memory_used > facts.memory_max * probe.limits.redis_used_share_max
    severity = Severity.MEDIUM if full and facts.policy == "noeviction" else Severity.INFO
    return [Seen(severity, observed, "memory for new values", evidence=evidence)]


async def look_writable(probe: Probe) -> list[Seen]:
    facts = probe.redis
    found = []
    if facts.role != "master":
        found.append(
            Seen(Severity.MEDIUM, f"this Redis is a {facts.role}: it takes no writes", "the primary")
        )
    if facts.background_save_failed:
        found.append(
            Seen(
                Severity.MEDIUM,
                "the last background save failed, so Redis may refuse writes",
                "no persistence: save ''",
            )
        )
    return found
