"""The configuration of session_service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from chassis.diagnostics.findings import Severity
from chassis.process.config import PREFIX, Doubt, ServiceConfig, check_address, rules
from session_service.domain.timing import OCCURRED_AGE_MAX, Retention, TimeRules

# How long a client with the default deadline retries a start.
RETRIED_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Config(ServiceConfig):
    """What the service needs to know."""

    subscription_target: str = field(
        metadata=rules(means="host:port of subscription_service", check=check_address)
    )
    progress_target: str = field(metadata=rules(means="host:port of progress_service", check=check_address))
    tls_peers: tuple[str, ...] = ("gateway",)
    janitor_interval_seconds: float = field(default=5.0, metadata=rules(minimum=0.1, maximum=3600))
    # Longer than a client retries through a restart: a start whose hold was resolved has to begin again
    # under a new key. That nothing is counted twice does not depend on it.
    janitor_hold_age_seconds: float = field(default=30.0, metadata=rules(minimum=0, maximum=86_400))
    # A session without a deadline ends after so long without an answer, so that no hold stays open for ever.
    # An identity check locks the session if it is not answered within this time.
    identity_answer_seconds: float = field(default=120.0, metadata=rules(minimum=5, maximum=86_400))
    # Checks come in equal parts of the test's engaged time or time limit, on average at most so far apart.
    identity_interval_seconds: float = field(default=600.0, metadata=rules(minimum=1, maximum=86_400))
    # The bound on guessing: wrong answers of one learner in a UTC day, over all sessions.
    identity_failures_per_day_max: int = field(default=12, metadata=rules(minimum=3, maximum=1000))
    session_idle_hours: float = field(default=24.0, metadata=rules(minimum=0.01, maximum=8760))
    # What was sent before the deadline may arrive a little later.
    deadline_grace_seconds: float = field(default=3.0, metadata=rules(minimum=0, maximum=300))
    # How long all pauses of one session may stop its clock, together. 0: no session can be paused.
    pause_budget_seconds: float = field(default=1800.0, metadata=rules(minimum=0, maximum=2_592_000))
    # Counted from the end of a session. The session itself, with its score and its counts, stays.
    answers_retention_days: float = field(default=1826.0, metadata=rules(minimum=1, maximum=36_500))
    timeline_retention_days: float = field(default=400.0, metadata=rules(minimum=1, maximum=36_500))

    # What pages are told to do. One heartbeat adds at most twice as much engaged time.
    heartbeat_interval_seconds: float = field(default=15.0, metadata=rules(minimum=1, maximum=300))
    # An unanswered session whose page has sent heartbeats ends after so long without one. Browsers slow down
    # hidden pages to one heartbeat a minute.
    session_lease_seconds: float = field(default=300.0, metadata=rules(minimum=2, maximum=604_800))
    # The same, after the page has said that it is being closed.
    session_left_lease_seconds: float = field(default=60.0, metadata=rules(minimum=1, maximum=604_800))
    # How often to look for sessions whose deadline or lease has passed.
    session_sweep_interval_seconds: float = field(default=2.0, metadata=rules(minimum=0.1, maximum=3600))

    @classmethod
    def problems(cls, given: Mapping[str, Any]) -> Iterator[str]:
        """The problems between fields: a lease outlasts the silence between two heartbeats."""
        yield from super().problems(given)
        interval, lease = given.get("heartbeat_interval_seconds"), given.get("session_lease_seconds")
        if interval is not None and lease is not None and lease < 2 * interval:
            yield (
                f"{PREFIX}SESSION_LEASE_SECONDS ({lease:g}) must be at least twice "
                f"{PREFIX}HEARTBEAT_INTERVAL_SECONDS ({interval:g})"
            )

    @classmethod
    def doubts(cls, given: Mapping[str, Any]) -> Iterator[Doubt]:
        """Times that undo one another."""
        seconds = {name: value for name, value in given.items() if name.endswith("_seconds")}
        for shorter, longer, why in (
            (
                "session_left_lease_seconds",
                "session_lease_seconds",
                "a page that was left would keep its session for longer than one that is open",
            ),
            (
                "session_sweep_interval_seconds",
                "session_left_lease_seconds",
                "a lease ends unnoticed until the next sweep",
            ),
            (
                "identity_answer_seconds",
                "identity_interval_seconds",
                "the next check would come while one still waits for its answer",
            ),
            (
                "janitor_interval_seconds",
                "session_lease_seconds",
                "what a crash left behind would outlive the sessions",
            ),
        ):
            if shorter in seconds and longer in seconds and seconds[shorter] > seconds[longer]:
                yield Doubt(
                    Severity.MEDIUM,
                    f"{PREFIX}{shorter.upper()} ({seconds[shorter]:g}) is longer than "
                    f"{PREFIX}{longer.upper()} ({seconds[longer]:g}): {why}",
                )
        if given.get("janitor_hold_age_seconds", RETRIED_SECONDS) < RETRIED_SECONDS:
            yield Doubt(
                Severity.MEDIUM,
                f"{PREFIX}JANITOR_HOLD_AGE_SECONDS is shorter than the {RETRIED_SECONDS:g} s that a client "
                "retries for: its retries would be refused with REQUEST_ABORTED",
            )
        if timedelta(days=given.get("idempotency_retention_days", 7.0)) < OCCURRED_AGE_MAX:
            yield Doubt(
                Severity.MEDIUM,
                f"{PREFIX}IDEMPOTENCY_RETENTION_DAYS is shorter than the {OCCURRED_AGE_MAX} for which an "
                "upload may be late: the same operation could have its effect twice",
            )

    @property
    def times(self) -> TimeRules:
        """The times that hold for all sessions."""
        return TimeRules(
            grace=timedelta(seconds=self.deadline_grace_seconds),
            pause_budget=timedelta(seconds=self.pause_budget_seconds),
            idle_allowed=timedelta(hours=self.session_idle_hours),
            heartbeat_interval=timedelta(seconds=self.heartbeat_interval_seconds),
            lease=timedelta(seconds=self.session_lease_seconds),
            left_lease=timedelta(seconds=self.session_left_lease_seconds),
        )

    @property
    def retention(self) -> Retention:
        """How long the records of ended sessions are kept."""
        return Retention(
            answers=timedelta(days=self.answers_retention_days),
            timeline=timedelta(days=self.timeline_retention_days),
        )
