"""What is told of progress that has changed."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.errors import ServiceError
from progress_service.domain.statistics import UserId
from progress_service.operations.changes import ChangeOperations
from progress_service.store.learner_versions import VersionStore
from tests.progress.conftest import Progress, asked
from tests.progress.results import completed, learner


async def versions(progress: Progress, *user_ids: UserId) -> Sequence[int | ServiceError]:
    operations = ChangeOperations(store=VersionStore(progress.database))
    (outcome,) = await operations.read_changes([asked(list(user_ids))])
    assert not isinstance(outcome, ServiceError)
    return outcome


async def test_the_version_of_each_learner_is_told_in_order(progress: Progress) -> None:
    ada, new = learner(), learner()
    assert await versions(progress, ada, new) == [0, 0]
    (recorded,) = await progress.deliver(completed(ada, "s1"))
    assert await versions(progress, new, ada, ada) == [0, recorded.version, recorded.version]


async def test_a_learner_who_cannot_be_read_costs_the_others_nothing(progress: Progress) -> None:
    learners = [learner() for _ in range(6)]
    await progress.deliver(*(completed(user, "s1") for user in learners))
    told = await versions(progress, *learners[:3], UserId("nul\0in it"), *learners[3:])
    assert isinstance(told[3], ServiceError)
    assert [each for place, each in enumerate(told) if place != 3] == [1] * 6
