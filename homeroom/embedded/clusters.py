"""The PostgreSQL of a data folder, for commands that use it while its supervisor runs it."""

from __future__ import annotations

from collections.abc import Mapping

from homeroom.data_directory import DataDirectory
from homeroom.embedded.postgres import SETTINGS, SUPERUSER, Cluster
from homeroom.secrets_file import SecretsFile


def cluster_of(
    data: DataDirectory, secrets: SecretsFile, *, settings: Mapping[str, str] = SETTINGS
) -> Cluster:
    """The cluster of this folder, with the password in its secrets; the settings are for its next start."""
    return Cluster(
        data.postgres,
        password=secrets.get(SUPERUSER),
        run=data.run,
        log=data.log(Cluster.name),
        settings=settings,
    )
