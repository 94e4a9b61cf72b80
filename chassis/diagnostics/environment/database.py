"""What a service needs of its database server, and what is left of it."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, unquote, urlsplit

from chassis.diagnostics.environment.checking import APPLICATION_SUFFIX, Probe, Seen
from chassis.diagnostics.findings import Severity

ROUND_TRIPS = 5
CONNECTIONS_LEFT_MIN = 3
_UTC = frozenset({"utc", "etc/utc", "gmt", "etc/gmt", "uct", "etc/uct", "zulu", "universal", "etc/universal"})


async def look_reachable(probe: Probe) -> list[Seen]:
    await probe.open_database()
    row = await probe.row(
        "SELECT current_setting('server_version') AS version, current_user AS role,"
        " current_database() AS name, inet_server_addr()::text AS address"
    )
    where = address_of(probe.environment.database_url) or row["name"]
    return [
        Seen(
            Severity.INFO,
            f"PostgreSQL {row['version']} answers as {row['role']}",
            evidence={"database": where, "role": row["role"], "server_version": row["version"]},
        )
    ]


def address_of(url: str | None) -> str:
    """Where a database is, `name at host:port`, without user and password; empty if it cannot be read.

    A password that is not quoted may look like a part of the path, so an address with another @ is not shown.
    """
    try:
        parts = urlsplit(url or "")
        if "@" in parts.path + parts.query + parts.fragment:
            return ""
        host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
        name, port = unquote(parts.path.lstrip("/")), parts.port
    except ValueError:
        return ""
    return f"{name} at {host}" + (f":{port}" if port else "") if host else name


async def look_round_trip(probe: Probe) -> list[Seen]:
    taken = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        await probe.row("SELECT 1 AS one")
        taken.append((time.perf_counter() - began) * 1000)
    fastest = min(taken)  # the others show how busy this process is
    limits = probe.limits
    severity = Severity.INFO
    if fastest > limits.round_trip_ms_high:
        severity = Severity.HIGH
    elif fastest > limits.round_trip_ms_medium:
        severity = Severity.MEDIUM
    return [
        Seen(
            severity,
            f"a round trip takes {fastest:.1f} ms",
            f"at most {limits.round_trip_ms_medium:g} ms",
            evidence={"fastest_ms": f"{fastest:.2f}", "slowest_ms": f"{max(taken):.2f}"},
        )
    ]


async def look_writable(probe: Probe) -> list[Seen]:
    row = await probe.row(
        "SELECT pg_is_in_recovery() AS standby,"
        " current_setting('transaction_read_only')::boolean AS read_only"
    )
    if row["standby"]:
        return [Seen(Severity.CRITICAL, "the server is a standby", "the primary server")]
    if row["read_only"]:
        return [Seen(Severity.CRITICAL, "transactions are read-only", "default_transaction_read_only is off")]
    return []


async def look_durable(probe: Probe) -> list[Seen]:
    rows = await probe.rows(
        "SELECT name, setting FROM pg_settings"
        " WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name"
    )
    return [Seen(Severity.HIGH, f"{row['name']} is off", f"{row['name']} is on") for row in rows]


async def look_settings(probe: Probe) -> list[Seen]:
    row = await probe.row(
        "SELECT current_setting('server_encoding') AS encoding, current_setting('TimeZone') AS time_zone,"
        " current_setting('default_transaction_isolation') AS isolation,"
        " (SELECT source || CASE WHEN sourcefile IS NULL THEN '' ELSE ' ' || sourcefile END"
        "  FROM pg_settings WHERE name = 'TimeZone') AS time_zone_from"
    )
    found = []
    if row["time_zone"].lower() not in _UTC:
        found.append(
            Seen(
                Severity.MEDIUM,
                f"the time zone is {row['time_zone']}",
                "UTC",
                evidence={"set_by": row["time_zone_from"]},
            )
        )
    if row["encoding"] != "UTF8":
        found.append(Seen(Severity.HIGH, f"the encoding is {row['encoding']}", "UTF8"))
    if row["isolation"] != "read committed":
        found.append(Seen(Severity.HIGH, f"the isolation is {row['isolation']}", "read committed"))
    return found


async def look_clock(probe: Probe) -> list[Seen]:
    """The database's clock against the process'. The fastest of several answers is the most exact one."""
    best = (float("inf"), 0.0)
    for _ in range(ROUND_TRIPS):
        asked, began = time.time(), time.perf_counter()
        row = await probe.row("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
        taken = time.perf_counter() - began
        best = min(best, (taken, row["now"] - asked - taken / 2))
    taken, offset = best
    limits = probe.limits
    severity = Severity.INFO
    if abs(offset) - taken / 2 > limits.clock_seconds_high:
        severity = Severity.HIGH
    elif abs(offset) - taken / 2 > limits.clock_seconds_medium:
        severity = Severity.MEDIUM
    direction = "ahead of" if offset > 0 else "behind"
    return [
        Seen(
            severity,
            f"the database's clock is {abs(offset):.3f} s {direction} this process'",
            f"at most {limits.clock_seconds_medium:g} s apart",
            evidence={"offset_seconds": f"{offset:.3f}", "uncertainty_seconds": f"{taken / 2:.3f}"},
        )
    ]


async def look_connections(probe: Probe) -> list[Seen]:
    row = await probe.row(
        """
        SELECT
            current_setting('max_connections')::int AS all_max,
            current_setting('superuser_reserved_connections')::int
                + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
            (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_max,
            (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_max,
            count(*)::int AS used,
            (count(*) FILTER (WHERE datname = current_database()))::int AS database_used,
            (count(*) FILTER (WHERE usename = current_user))::int AS role_used
        FROM pg_stat_activity
        WHERE datid IS NOT NULL AND usesysid IS NOT NULL
            AND NOT (usename = current_user AND right(application_name, length($1)) = $1)
        """,
        APPLICATION_SUFFIX,
    )
    lefts = {"the server": row["all_max"] - row["reserved"] - row["used"]}
    if row["database_max"] >= 0:
        lefts["the database"] = row["database_max"] - row["database_used"]
    if row["role_max"] >= 0:
        lefts["the role"] = row["role_max"] - row["role_used"]
    where, left = min(lefts.items(), key=lambda each: each[1])
    pool = probe.environment.database_connections_max
    evidence = {
        "max_connections": str(row["all_max"]),
        "reserved": str(row["reserved"]),
        "used": str(row["used"]),
        "used_by_this_role": str(row["role_used"]),
        "pool_max": str(pool),
    }
    observed = (
        f"{max(left, 0)} connections of {where} are left: room for {max(left, 0) // pool} more processes"
    )
    if left < CONNECTIONS_LEFT_MIN:
        severity = Severity.HIGH
    elif left < pool:
        severity = Severity.MEDIUM
    else:
        severity = Severity.INFO
    return [Seen(severity, observed, f"at least {pool}, the pool of one more process", evidence=evidence)]


async def look_long_transactions(probe: Probe) -> list[Seen]:
    """A service's role does not see the times of other roles' sessions, but the age of their snapshots."""
    limits = probe.limits
    sessions = await probe.rows(
        """
        SELECT pid, coalesce(usename, backend_type, 'a background process') AS usename,
            coalesce(application_name, '') AS application, state,
            extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds,
            age(backend_xmin) AS snapshot_age
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND (clock_timestamp() - xact_start > make_interval(secs => $1) OR age(backend_xmin) > $2)
        ORDER BY xact_start
        """,
        limits.transaction_seconds_medium,
        limits.snapshot_age_max,
    )
    found = [
        Seen(
            Severity.HIGH if (row["seconds"] or 0) > limits.transaction_seconds_high else Severity.MEDIUM,
            f"a transaction of {row['usename']} is open for {row['seconds']:.0f} s ({row['state']})"
            if row["seconds"] is not None
            else f"{row['usename']} uses a snapshot that is {row['snapshot_age']} transactions old",
            f"at most {limits.transaction_seconds_medium:g} s",
            row={"pid": str(row["pid"])},
            evidence={"application": row["application"]},
        )
        for row in sessions
    ]
    prepared = await probe.rows(
        """
        SELECT gid, owner::text AS owner, extract(epoch FROM clock_timestamp() - prepared)::float8 AS seconds
        FROM pg_prepared_xacts
        WHERE database = current_database() AND clock_timestamp() - prepared > make_interval(secs => $1)
        ORDER BY prepared
        """,
        limits.transaction_seconds_medium,
    )
    return found + [
        Seen(
            Severity.HIGH,
            f"a transaction of {row['owner']} is prepared for {row['seconds']:.0f} s",
            "no prepared transaction: Homeroom makes none",
            row={"gid": row["gid"]},
        )
        for row in prepared
    ]


async def look_transaction_age(probe: Probe) -> list[Seen]:
    row = await probe.row(
        "SELECT age(datfrozenxid) AS age, mxid_age(datminmxid) AS multi_age FROM pg_database"
        " WHERE datname = current_database()"
    )
    age = max(row["age"], row["multi_age"])
    limits = probe.limits
    severity = Severity.INFO
    for limit, worse in (
        (limits.transaction_age_medium, Severity.MEDIUM),
        (limits.transaction_age_high, Severity.HIGH),
        (limits.transaction_age_critical, Severity.CRITICAL),
    ):
        if age > limit:
            severity = worse
    return [
        Seen(
            severity,
            f"the oldest rows were frozen {age} transactions ago",
            f"at most {limits.transaction_age_medium}; at 2100000000 the server refuses writes",
            evidence={"transactions": str(row["age"]), "multixacts": str(row["multi_age"])},
        )
    ]


async def look_autovacuum(probe: Probe) -> list[Seen]:
    settings = await probe.rows(
        "SELECT name FROM pg_settings WHERE name IN ('autovacuum', 'track_counts') AND setting = 'off'"
        " ORDER BY name"
    )
    tables = await probe.rows(
        """
        SELECT relname FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
            AND 'autovacuum_enabled=false' = ANY (reloptions)
        ORDER BY relname
        """
    )
    return [Seen(Severity.HIGH, f"{row['name']} is off", f"{row['name']} is on") for row in settings] + [
        Seen(
            Severity.MEDIUM,
            f"autovacuum is off for {row['relname']}",
            "autovacuum is on for every table",
            row={"table": row["relname"]},
        )
        for row in tables
    ]
