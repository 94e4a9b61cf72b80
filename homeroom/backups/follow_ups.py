"""What else is set when one database goes back in time and those beside it do not."""

from __future__ import annotations

from collections.abc import Callable, Collection

import asyncpg

from homeroom.backups.swapping import restoring_name
from homeroom.embedded.postgres import Cluster
from homeroom.services import PROGRESS, SESSION, STORES, SUBSCRIPTION

# progress_service remembers how far it has read the changes of licenses, by their numbers. The changes that
# are lost had numbers, too. No database lives through so many transactions between a backup and its restore,
# so after this no new change has a number that was read before.
_BEGIN_NEW_NUMBERS = "UPDATE license_feed SET origin = origin + 4294967296"

# The janitor looks at each open hold once. Holds that are open again would never be looked at.
_LOOK_AT_ALL_HOLDS_AGAIN = "DELETE FROM hold_watermarks"

STOPPED_TOO = {SUBSCRIPTION.database: (SESSION,)}
"""Services that must not run while the database of another one is restored: the janitor is one of theirs."""


async def follow_up(cluster: Cluster, databases: Collection[str], *, say: Callable[[str], None]) -> None:
    """Set what must be other than in the dump; before the exchange, while the services do not run."""
    subscription, session = str(SUBSCRIPTION.database), str(SESSION.database)
    if subscription not in databases:
        return
    await _execute(cluster, restoring_name(subscription), _BEGIN_NEW_NUMBERS)
    place = restoring_name(session) if session in databases else session
    try:
        await _execute(cluster, place, _LOOK_AT_ALL_HOLDS_AGAIN)
    except (asyncpg.InvalidCatalogNameError, asyncpg.UndefinedTableError):
        return  # there is no database of sessions yet, so nothing was looked at
    say("session_service: the janitor will look at all open holds again")


def stopped_for(databases: Collection[str]) -> list[str]:
    """The packages of all services that are stopped while these databases are restored."""
    packages = {STORES[database].package for database in databases}
    packages |= {service.package for database in databases for service in STOPPED_TOO.get(database, ())}
    return sorted(packages)


def caches(databases: Collection[str]) -> bool:
    """Whether Redis has values of these databases."""
    return PROGRESS.database in databases


async def _execute(cluster: Cluster, database: str, statement: str) -> None:
    connection = await asyncpg.connect(cluster.dsn(database))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
