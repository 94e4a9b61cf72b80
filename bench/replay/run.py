"""A whole replay against one gateway: set up, play, wait, compare; and again, if asked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

from rich.progress import Progress

from bench.replay.books import Reader
from bench.replay.caller import Caller
from bench.replay.comparison import compare, compare_plays
from bench.replay.log import PracticeLog
from bench.replay.play import Play, Player
from bench.replay.report import Outcome, Replayed, replayed
from bench.replay.school import ADMINISTRATOR, XP_PER_SESSION, School

COUNTED_SECONDS_MAX = 120.0  # a relay that was killed leaves its events leased for a while
TOKEN_SECONDS = 12 * 3600

MakeToken = Callable[[str, tuple[str, ...]], str]
# What happens to the stack during a play, such as `Killer.at_work`.
Disturb = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Order:
    """What to do: `at_once` learners play at a time; `twice` plays the log again with the same keys.

    With `shuffle_seed`, each operation is sent one to three times; the log must be shuffled with it already.
    With `upload`, answers and completions go through the batch upload.
    """

    log: PracticeLog
    at_once: int
    twice: bool
    shuffle_seed: int | None = None
    upload: bool = False


async def replay(
    order: Order,
    *,
    gateway_url: str,
    make_token: MakeToken,
    progress: Progress,
    disturb: Disturb = nullcontext,
) -> Outcome:
    """Play the log, inside of `disturb`, and compare.

    Raises ReplayError if it cannot come to an end.
    """
    log = order.log

    @cache
    def token(learner: str) -> str:
        return make_token(learner, ("learner",))

    async with Caller(gateway_url, connections_max=order.at_once) as caller:
        await _set_up(order, caller, make_token(ADMINISTRATOR, ("admin",)), progress)
        player = Player(caller, token=token, seed=order.shuffle_seed, upload=order.upload)
        reader = Reader(caller, token=token, at_once=order.at_once)

        async with disturb():
            first = await _play(order, player, "answers", progress)
        all_counted = await reader.wait_until_counted(log, seconds_max=COUNTED_SECONDS_MAX)
        books = await reader.read(log)
        comparison = compare(log, first, books, xp_per_session=XP_PER_SESSION)
        if not order.twice:
            return Outcome(log, (first,), comparison, all_counted, None, _statuses(caller))

        async with disturb():
            second = await _play(order, player, "the same again", progress)
        differences = compare_plays(first, second, books, await reader.read(log))
        again: Replayed = replayed(second, differences)
        return Outcome(log, (first, second), comparison, all_counted, again, _statuses(caller))


def _statuses(caller: Caller) -> Mapping[str, int]:
    return dict(sorted(caller.statuses.items()))


async def _set_up(order: Order, caller: Caller, admin_token: str, progress: Progress) -> None:
    task = progress.add_task("accounts", total=len(order.log.learners))
    school = School(caller, admin_token=admin_token)
    await school.import_test(order.log)
    await school.open_accounts(order.log, at_once=order.at_once, advance=lambda: progress.advance(task))


async def _play(order: Order, player: Player, name: str, progress: Progress) -> Play:
    task = progress.add_task(name, total=order.log.answer_count)
    return await player.play(
        order.log, at_once=order.at_once, advance=lambda answers: progress.advance(task, answers)
    )
