"""What progress costs does not grow with the number of learners: each statement probes indexes."""

from __future__ import annotations

import random

from bench.scale.measuring import Measure
from bench.scale.plans import WatchedDatabase, explain, scans_of_whole_tables
from bench.scale.progress_subject import ProgressSubject
from chassis.postgres import Connection
from homeroom.embedded.provisioning import ServiceDatabase

COMPLETIONS = 40_000
BATCHES = 12
"""Enough for the server to keep a plan of each prepared statement that is good for any arguments."""


async def test_no_statement_reads_a_table_of_learners_from_end_to_end(
    progress_database: ServiceDatabase, truth: Connection
) -> None:
    subject = ProgressSubject()
    learners = await subject.build(truth, COMPLETIONS, lambda _: None)
    database = await WatchedDatabase.connect(progress_database.service, maximum=1)
    assert isinstance(database, WatchedDatabase)
    try:
        measure = Measure(database, subject.assemble(database, "a-secret"), truth)
        await measure.begin()
        chosen = random.Random(1).sample(range(learners), 200)
        async for _ in subject.round(measure, chosen, BATCHES):
            pass
        plans = await explain(database)
    finally:
        await database.close()
    assert len(plans) > 20
    assert scans_of_whole_tables(plans, subject.tables) == []
