"""The PostgreSQL of a data folder, for commands that use it while its supervisor runs it."""

from __future__ import annotations

from homeroom.data_directory import DataDirectory
from homeroom.embedded.postgres import SUPERUSER, Cluster


def cluster_of(data: DataDirectory) -> Cluster:
    """The cluster of this folder, as it is after `homeroom up`."""
    return Cluster(
        data.postgres, password=data.secrets().get(SUPERUSER), run=data.run, log=data.log("postgres")
    )
