"""A learner's day on a running stack, with everything that can go wrong; each step checks its result."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

from homeroom import demo_school, state
from homeroom.api import Answer, Api

_VICTIM = "session_service"
_RECOVERY_SECONDS_MAX = 30.0
_COUNTED_SECONDS_MAX = 20.0
_POLL_SECONDS = 0.1


class TourError(RuntimeError):
    """A step did not have the result that it must have."""


class Tour:
    """The steps, in the order of `run()`. `learner` is new to the stack and has started no test today."""

    def __init__(self, *, admin: Api, learner: Api, user_id: str, state_file: Path, console: Console) -> None:
        self._admin = admin
        self._learner = learner
        self._user_id = user_id
        self._state_file = state_file
        self._console = console
        self._run = secrets.token_hex(4)
        self._steps = 0

    async def run(self) -> None:
        """Take all steps; TourError at the first whose result is wrong."""
        tests = demo_school.tests_offered()
        await self._enroll()
        first = await self._one_click_sent_twice(tests[0])
        await self._two_tabs(tests[1])
        await self._the_limit(tests[2:])
        await self._a_process_dies(first)
        await self._finish(first)
        await self._counted_once(first)

    async def _enroll(self) -> None:
        self._title("A new learner", "an account, and the default plan that comes with it")
        await demo_school.seed(self._admin)
        account = {
            "email": f"{self._user_id}@demo.homeroom.example",
            "displayName": "A curious visitor",
            "emailVerified": True,
            "status": "ACTIVE",
        }
        await self._admin.want("PUT", f"/v1/accounts/{self._user_id}", account)
        tests = (await self._entitlements())["tests"]
        self._check(tests["used"] == 0 and tests["held"] == 0, f"a fresh day should be empty, not {tests}")
        self._tell(f"[b]{self._user_id}[/] may start [b]{tests.get('limit', 'any number of')}[/] tests today")

    async def _one_click_sent_twice(self, test_id: str) -> dict[str, Any]:
        self._title(
            "One click, sent twice", "the answer was lost on the way, so the page sends the start again"
        )
        first = await self._start(test_id, "click")
        again = await self._start(test_id, "click")
        self._check(first.status == 201, f"the first start should be 201, not {first.problem}")
        self._check(again.status == 201 and again.replayed, "the second answer should be a replay of the 201")
        self._check(again.body == first.body, "both answers should be the same")
        await self._check_units(1, "one session, one unit of today's tests")
        return first.body

    async def _two_tabs(self, test_id: str) -> None:
        self._title("A double-click in two tabs", "two keys, one test, at the same moment")
        answers = await asyncio.gather(self._start(test_id, "tab-1"), self._start(test_id, "tab-2"))
        statuses = sorted(answer.status for answer in answers)
        self._check(
            statuses == [200, 201], f"one tab should start (201) and one resume (200), not {statuses}"
        )
        self._check(
            len({answer.body["sessionId"] for answer in answers}) == 1, "both should be in one session"
        )
        resumed = next(answer for answer in answers if answer.status == 200)
        self._check(resumed.body["resumed"] is True, "the second tab should be told that it resumed")
        await self._check_units(2, "both tabs are in the same session, for one more unit")

    async def _the_limit(self, test_ids: list[str]) -> None:
        self._title("One test too many", "starting until the plan says no")
        limit = (await self._entitlements())["tests"].get("limit")
        self._check(
            limit is not None and limit < len(test_ids) + 2,
            f"the plan's limit ({limit}) cannot be reached here",
        )
        for count, test_id in enumerate(test_ids, start=3):
            answer = await self._start(test_id, f"test-{count}")
            if count <= limit:
                self._check(
                    answer.status == 201, f"test {count} of {limit} should start, not {answer.problem}"
                )
                continue
            self._check(
                answer.status == 429, f"test {count} of {limit} should be refused, not {answer.status}"
            )
            self._check(
                answer.body.get("reason") == "DAILY_LIMIT_REACHED",
                f"this is the wrong reason: {answer.problem}",
            )
            missing = {"limit", "used", "held", "resetsAt"} - set(answer.body)
            self._check(not missing, f"the refusal should say {', '.join(sorted(missing))}")
            break
        await self._check_units(
            limit, f"exactly {limit} units are taken, and the refusal says when they return"
        )

    async def _a_process_dies(self, session: dict[str, Any]) -> None:
        before = self._process()
        self._title("A process dies", f"SIGKILL to {_VICTIM}, process {before.pid}")
        if before.pid is None:
            raise TourError(f"{_VICTIM} does not run at the moment")
        os.kill(before.pid, signal.SIGKILL)
        began = time.monotonic()
        answer, refusals = await self._start_until_answered(session["testId"])
        seconds = time.monotonic() - began
        self._check(
            answer.status == 201 and answer.replayed, f"the key should still replay, not {answer.problem}"
        )
        self._check(answer.body["sessionId"] == session["sessionId"], "the key should give the same session")
        after = await self._until_restarted(before)
        self._tell(
            f"answered after [b]{seconds:.1f} s[/] and {refusals} times 503: the same session, a replay"
        )
        self._tell(f"{_VICTIM} is back as process [b]{after.pid}[/], its restart number {after.restarts}")

    async def _finish(self, session: dict[str, Any]) -> None:
        self._title("Finishing", "every question answered, then the test handed in")
        path = f"/v1/sessions/{session['sessionId']}"
        for question in session["questions"]:
            choice = demo_school.right_answer(question["questionId"])
            body = {"questionId": question["questionId"], "choice": choice}
            verdict = await self._learner.want(
                "POST", f"{path}/answers", body, key=self._key(question["questionId"])
            )
            self._check(
                verdict["correct"] is True, f"{choice!r} should be right for {question['questionId']}"
            )
            self._tell(f"{question['prompt']}  [green]{choice}[/]")
        done = await self._learner.want("POST", f"{path}:complete", {}, key=self._key("complete"))
        self._check(done["state"] == "COMPLETED", f"the session should be completed, not {done['state']}")
        self._check(
            done["score"] == 1, f"all answers were right, so the score should be 1, not {done.get('score')}"
        )

    async def _counted_once(self, session: dict[str, Any]) -> None:
        self._title("Counted once", "the result travels to the learner's statistics")
        total = len(session["questions"])
        deadline = time.monotonic() + _COUNTED_SECONDS_MAX
        while not (stats := await self._learner.want("GET", "/v1/stats"))["completedSessions"]:
            self._check(time.monotonic() < deadline, "the completed session should be counted by now")
            await asyncio.sleep(_POLL_SECONDS)
        expected = {"completedSessions": 1, "questionsAnswered": total, "answers": total, "correct": total}
        counted = {name: stats[name] for name in expected}
        self._check(counted == expected, f"the statistics should be {expected}, not {counted}")
        while (tests := (await self._entitlements())["tests"])["used"] != 1:
            self._check(time.monotonic() < deadline, f"one unit should be used for good by now, not {tests}")
            await asyncio.sleep(_POLL_SECONDS)
        self._tell(
            f"{stats['correct']} right answers, {stats['xp']} XP, a streak of {stats['streakDays']} day"
        )
        self._tell(f"of today's tests [b]{tests['used']}[/] is used, {tests['held']} are still under way")

    async def _start(self, test_id: str, key: str) -> Answer:
        answer = await self._learner.ask("POST", "/v1/sessions", {"testId": test_id}, key=self._key(key))
        marks = [str(answer.status)]
        if answer.replayed:
            marks.append("replayed")
        if answer.body.get("resumed") is True:
            marks.append("resumed")
        if "reason" in answer.body:
            marks.append(str(answer.body["reason"]))
        self._tell(f"start [b]{test_id}[/] with key {key}  →  [cyan]{' · '.join(marks)}[/]")
        return answer

    async def _start_until_answered(self, test_id: str) -> tuple[Answer, int]:
        """Send the start with the same key until the answer is final, as a patient page does.

        Only 503 and 504 are sent again: any other answer is final, and a 500 fails the step.
        """
        deadline = time.monotonic() + _RECOVERY_SECONDS_MAX
        refusals = 0
        while True:
            answer = await self._start(test_id, "click")
            if answer.status not in {503, 504}:
                return answer, refusals
            refusals += 1
            self._check(time.monotonic() < deadline, f"{_VICTIM} should answer again by now")
            await asyncio.sleep(_POLL_SECONDS)

    async def _until_restarted(self, before: state.ProcessState) -> state.ProcessState:
        deadline = time.monotonic() + _RECOVERY_SECONDS_MAX
        while (now := self._process()).restarts == before.restarts or now.pid is None:
            self._check(time.monotonic() < deadline, f"the supervisor should have started {_VICTIM} again")
            await asyncio.sleep(_POLL_SECONDS)
        self._check(now.pid != before.pid, "the new process should be another one")
        return now

    async def _entitlements(self) -> dict[str, Any]:
        return await self._learner.want("GET", "/v1/entitlements")

    async def _check_units(self, expected: int, meaning: str) -> None:
        tests = (await self._entitlements())["tests"]
        taken = tests["used"] + tests["held"]
        self._check(taken == expected, f"{expected} units should be taken, not {taken}")
        self._tell(meaning)

    def _process(self) -> state.ProcessState:
        stack = state.read(self._state_file)
        if stack is None:
            raise TourError("the stack has stopped")
        return stack.process(_VICTIM)

    def _key(self, name: str) -> str:
        return f"{self._run}-{name}"

    def _title(self, title: str, explanation: str) -> None:
        self._steps += 1
        self._console.print()
        self._console.print(Rule(f"[bold]{self._steps}  {title}[/]", align="left", style="blue"))
        self._console.print(f"   [italic dim]{explanation}[/]")

    def _tell(self, line: str) -> None:
        self._console.print(f"   {line}", soft_wrap=True)

    def _check(self, holds: bool, complaint: str) -> None:
        if not holds:
            raise TourError(f"step {self._steps}: {complaint}")
