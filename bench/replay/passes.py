"""Several passes over one log, each with new learners, as one outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.replay.comparison import Comparison
from bench.replay.log import PracticeLog
from bench.replay.play import Play
from bench.replay.report import Outcome, Replayed
from bench.replay.tally import total


def log_of_pass(log: PracticeLog, number: int) -> PracticeLog:
    """The log for this pass, counted from 1: the log itself first, then with new learners each time."""
    return log if number == 1 else log.with_new_learners(f"pass-{number}")


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of all passes: counts are sums, and every difference of every pass is kept."""
    if len(outcomes) == 1:
        return outcomes[0]
    log = outcomes[0].log
    for outcome in outcomes[1:]:
        log = log.and_also(outcome.log)
    statuses: Counter[str] = Counter()
    for outcome in outcomes:
        statuses.update(outcome.statuses)
    return Outcome(
        log,
        [_joined_plays(plays) for plays in zip(*(outcome.plays for outcome in outcomes), strict=True)],
        _joined_comparisons([outcome.comparison for outcome in outcomes]),
        all_counted=all(outcome.all_counted for outcome in outcomes),
        second=_joined_replays([outcome.second for outcome in outcomes if outcome.second is not None]),
        statuses=dict(sorted(statuses.items())),
        passes=len(outcomes),
    )


def _joined_plays(plays: Sequence[Play]) -> Play:
    return Play(
        {learner: sessions for play in plays for learner, sessions in play.sessions.items()},
        seconds=sum(play.seconds for play in plays),
        latencies_seconds=sorted(latency for play in plays for latency in play.latencies_seconds),
        retries=sum(play.retries for play in plays),
    )


def _joined_comparisons(comparisons: Sequence[Comparison]) -> Comparison:
    return Comparison(
        log=total(each.log for each in comparisons),
        answers_of_gateway=total(each.answers_of_gateway for each in comparisons),
        listed_sessions=total(each.listed_sessions for each in comparisons),
        stats=total(each.stats for each in comparisons),
        differences=[difference for each in comparisons for difference in each.differences],
    )


def _joined_replays(replays: Sequence[Replayed]) -> Replayed | None:
    if not replays:
        return None
    return Replayed(
        answers=sum(each.answers for each in replays),
        answers_replayed=sum(each.answers_replayed for each in replays),
        steps=sum(each.steps for each in replays),
        steps_replayed=sum(each.steps_replayed for each in replays),
        differences=[difference for each in replays for difference in each.differences],
    )
