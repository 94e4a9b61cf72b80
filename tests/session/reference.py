"""The life of a session, told a second time: by lists and plain numbers, with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

QUESTIONS = 3
TIME_LIMIT = 610
GRACE = 2
PAUSE_BUDGET = 1200
IDLE_ALLOWED = 4010
INTERVAL = 20
LEASE = 310
LEFT_LEASE = 70
PASS_SCORE = 0.5


@dataclass(frozen=True)
class Refused:
    """Why a request was refused, with the states that a refused move tells."""

    reason: str
    move: tuple[str, str] | None = None


@dataclass
class ReferenceSession:
    """A session of a test with three questions; all times are seconds of the history."""

    started: int
    timed: bool
    state: str = "ACTIVE"
    close_reason: str = ""
    given: list[tuple[int, bool]] = field(default_factory=list)
    paused_before: int = 0
    paused: int | None = None
    answered_at: int | None = None
    engaged: int = 0
    seq: int = 0
    seen: int | None = None
    left: int | None = None
    leased: bool = False
    lapsed: int = 0

    @property
    def live(self) -> bool:
        return self.state in {"ACTIVE", "PAUSED"}

    @property
    def latest(self) -> dict[int, bool]:
        return dict(self.given)

    @property
    def score(self) -> float:
        return sum(self.latest.values()) / QUESTIONS

    @property
    def counts(self) -> bool:
        """Whether it costs its unit, once it has ended."""
        return bool(self.given)

    @property
    def completed(self) -> bool:
        """Whether progress_service counts it as a completion."""
        return self.counts and self.close_reason in {"submitted", "timed_out"}

    @property
    def passed(self) -> bool:
        return self.completed and self.score >= PASS_SCORE

    def pause_end(self) -> int | None:
        return None if self.paused is None else self.paused + PAUSE_BUDGET - self.paused_before

    def pause_goes_until(self, now: int) -> None:
        """End the pause, at the latest when its budget was used up."""
        end = self.pause_end()
        if self.paused is not None and end is not None:
            ended = min(now, end)
            self.paused_before += ended - self.paused
            self.paused = None
            self.lapsed = ended
            self.sign_of_life(max(self.seen or 0, ended))

    def sign_of_life(self, at: int) -> None:
        """Somebody is there after all: an earlier departure is forgotten."""
        self.seen, self.left = at, None

    def catch_up(self, now: int) -> None:
        """What the clock brings, whoever looks."""
        if not self.live:
            return
        end = self.pause_end()
        if end is not None and now >= end:
            self.pause_goes_until(now)
            self.state = "ACTIVE"
        paused = self.paused_before + (now - self.paused if self.paused is not None else 0)
        if self.timed and now - self.started - paused >= TIME_LIMIT + GRACE:
            self.close("EXPIRED", "timed_out", now)

    def close(self, state: str, reason: str, now: int) -> None:
        self.pause_goes_until(now)
        self.state, self.close_reason = state, reason

    # --- what a learner does; each returns None, or why it is refused ----------------------------------

    def move(self, to: str, now: int) -> Refused | None:
        self.catch_up(now)
        legal = {"PAUSED": {"ACTIVE"}, "ACTIVE": {"PAUSED"}}.get(to, {"ACTIVE", "PAUSED"})
        if self.state not in legal:
            return Refused("ILLEGAL_TRANSITION", (self.state, to))
        if to == "PAUSED":
            if self.paused_before >= PAUSE_BUDGET:
                return Refused("ILLEGAL_TRANSITION", (self.state, to))
            self.paused = now
        elif to == "ACTIVE":
            self.pause_goes_until(now)
        else:
            self.close(to, {"COMPLETED": "submitted", "ABANDONED": "learner_left"}[to], now)
        self.state = to
        return None

    def complete(self, now: int) -> Refused | None:
        self.catch_up(now)
        return None if self.state == "COMPLETED" else self.move("COMPLETED", now)

    def answer(self, question: int, right: bool, now: int) -> Refused | None:
        self.catch_up(now)
        if self.close_reason == "timed_out":
            return Refused("DEADLINE_PASSED")
        if not self.live:
            return Refused("SESSION_CLOSED")
        if self.state == "PAUSED":
            return Refused("ILLEGAL_TRANSITION", ("PAUSED", "ACTIVE"))
        self.given.append((question, right))
        self.answered_at = now
        return None

    def beat(self, seq: int, visible: bool, now: int) -> None:
        self.catch_up(now)
        if not self.live or seq <= self.seq:
            return
        if visible and self.state == "ACTIVE":
            since = self.started if self.seen is None else self.seen
            self.engaged += min(now - max(since, self.lapsed), 2 * INTERVAL)
        self.seq = seq
        self.sign_of_life(now)
        self.leased = self.leased or not self.given

    def leave(self, now: int) -> None:
        self.catch_up(now)
        if self.live:
            self.left = now
            self.leased = self.leased or not self.given

    def resumed_by_start(self, now: int) -> None:
        if self.seen is not None or self.left is not None or not self.timed:
            self.sign_of_life(now)

    # --- what the sweeps do ----------------------------------------------------------------------------

    def sweep_unused(self, now: int) -> None:
        self.catch_up(now)
        if not self.live or self.given or not self.leased:
            return
        ends = [] if self.seen is None or not self.seq else [self.seen + LEASE]
        if self.left is not None:
            ends.append(self.left + LEFT_LEASE)
        if not ends:
            return
        end = max(min(ends), self.pause_end() or 0)
        if now >= end:
            self.close("ABANDONED", "never_used", now)

    def sweep_idle(self, now: int) -> None:
        signs = (self.started, self.answered_at, self.seen, self.pause_end())
        active = max(sign for sign in signs if sign is not None)
        if self.live and not self.timed and now - active >= IDLE_ALLOWED:
            self.close(*(("EXPIRED", "lease_lost") if self.given else ("ABANDONED", "never_used")), now)
