"""A service that has no methods of its own: what every service process does, and nothing else."""

from __future__ import annotations

import os
import sys

from chassis.postgres.migrations import FOLDER
from chassis.process.config import ServiceConfig, load
from chassis.process.lifecycle import Shutdown
from chassis.process.service import Service, run_command

MIGRATIONS = {"chassis": FOLDER}


async def serve(shutdown: Shutdown) -> None:
    config = load(ServiceConfig, os.environ)
    service = await Service.begin("bare_service", config=config, migrations=MIGRATIONS, shutdown=shutdown)
    await service.listen([])
    await shutdown.wait()


if __name__ == "__main__":
    sys.exit(run_command("bare_service", purpose="For tests.", serve=serve, migrations=MIGRATIONS))
