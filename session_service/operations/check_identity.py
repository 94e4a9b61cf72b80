"""Identity checks: enroll questions, show the check that is due, answer it, release a locked session."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import blake2b
from typing import TypeVar

from chassis.batch import Item, Outcome, latest_deadline
from chassis.errors import Reason, ServiceError
from chassis.postgres.isolation import Locked, run_isolated
from session_service.domain.identity import (
    CheckName,
    Enrollment,
    IdentityQuestion,
    IdentityRules,
    check_due,
    normalized_answer,
    progress_of,
)
from session_service.domain.ids import SessionId
from session_service.domain.missing import no_such_session
from session_service.domain.sessions import SessionKey
from session_service.operations.answer_hashing import AnswerHashing
from session_service.operations.check_drafts import (
    CheckDraft,
    CheckView,
    JudgedCheck,
    name_of_check,
    view_of,
)
from session_service.store.enrollments import EnrollmentStore, WantedEnrollment
from session_service.store.identity import (
    Facts,
    IdentityChanges,
    IdentityStore,
    SessionRequest,
)

R = TypeVar("R", bound=SessionRequest)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class EnrollRequest:
    """Prompts with their answers as the learner typed them."""

    questions: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """An answer to a check; `answer` is as the learner typed it."""

    user_id: str
    session_id: SessionId
    check_number: int
    answer: str


@dataclass(frozen=True, slots=True)
class ComparedAnswer:
    """An answer, and the question that it was compared with; None when there was none to compare with."""

    user_id: str
    session_id: SessionId
    check_number: int
    compared_with: CheckName | None
    right: bool


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """Which session an administrator releases, and why."""

    user_id: str
    session_id: SessionId
    reason: str


class IdentityChecks:
    """What learners and administrators do with identity checks.

    Args:
        store: where the checks of sessions and their history are.
        enrollments: where the questions of learners are.
        hashing: makes and compares the slow hashes, before any transaction begins.
        rules: the times and bounds of checks.
        grace: how long after its deadline a session is still open.
        secret: a secret that the replicas share. Fingerprints of requests are made with it: an unkeyed one
            would be a fast hash of the answer, beside the slow one.
    """

    def __init__(
        self,
        *,
        store: IdentityStore,
        enrollments: EnrollmentStore,
        hashing: AnswerHashing,
        rules: IdentityRules,
        grace: timedelta,
        secret: str,
    ) -> None:
        self._store = store
        self._enrollments = enrollments
        self._hashing = hashing
        self._rules = rules
        self._grace = grace
        self._secret = blake2b(secret.encode(), digest_size=32, person=b"identity-answer").digest()
        self._draw = random.SystemRandom().random

    async def put_questions(self, items: Sequence[Item[EnrollRequest]]) -> list[Enrollment | ServiceError]:
        """Replace each caller's questions; refused while a session that still asks them is under way."""
        hashed = await asyncio.gather(*map(self._hashed, items))
        outcomes: list[Enrollment | ServiceError] = []
        wanted = [
            item.asking(each)
            for item, each in zip(items, hashed, strict=True)
            if isinstance(each, WantedEnrollment)
        ]
        stored = iter(
            await run_isolated(wanted, self._enrollments.put_enrollments, owner_of=lambda item: item.user_id)
            if wanted
            else ()
        )
        for each in hashed:
            if isinstance(each, ServiceError):
                outcomes.append(each)
                continue
            result = next(stored)
            if isinstance(result, ServiceError):
                outcomes.append(result)
            elif result.enrollment is None:
                outcomes.append(
                    ServiceError(
                        Reason.IDENTITY_LOCKED,
                        "A session that asks these questions is under way; they can change when it has ended",
                        metadata={"state": "IN_USE", "sessionId": str(result.blocking_session)},
                    )
                )
            else:
                outcomes.append(result.enrollment)
        return outcomes

    async def get_questions(self, items: Sequence[Item[None]]) -> list[Enrollment | ServiceError]:
        """Each caller's questions, without the answers."""
        found = await self._enrollments.get_enrollments(
            {item.user_id for item in items}, deadline=latest_deadline(items)
        )
        return [
            found.get(item.user_id) or ServiceError(Reason.NOT_FOUND, "No identity questions are enrolled")
            for item in items
        ]

    async def get_checks(self, items: Sequence[Item[SessionId]]) -> list[CheckView | ServiceError]:
        """Each session's checks, with the one that is due."""
        keys = [SessionKey(item.user_id, item.request) for item in items]
        found = await self._store.read_checks(set(keys), deadline=latest_deadline(items))
        return [view_of(found[key], self._grace) if key in found else no_such_session() for key in keys]

    async def answer_checks(
        self, items: Sequence[Item[CheckAnswer]], render: Callable[[JudgedCheck], bytes]
    ) -> list[Outcome]:
        """Judge each answer. Answers are compared first, outside any transaction, and counted afterwards."""
        keys = {SessionKey(item.request.user_id, item.request.session_id) for item in items}
        facts = await self._store.read_checks(keys, deadline=latest_deadline(items))
        judged = await asyncio.gather(*(self._judged(item, facts) for item in items))
        ours = [
            Item(item.context, each, self._fingerprint(item))
            for item, each in zip(items, judged, strict=True)
            if isinstance(each, ComparedAnswer)
        ]

        def decide(draft: CheckDraft, item: Item[ComparedAnswer]) -> JudgedCheck:
            request = item.request
            return draft.answer(
                request.check_number,
                compared_with=request.compared_with,
                right=request.right,
                request_id=item.context.request_id,
                chance=self._draw(),
            )

        counted = iter(await self._change(ours, decide, render))
        return [each if isinstance(each, ServiceError) else next(counted) for each in judged]

    async def release_sessions(
        self, items: Sequence[Item[ReleaseRequest]], render: Callable[[CheckView], bytes]
    ) -> list[Outcome]:
        """Unlock each session; another check comes in place of the one that locked it."""

        def decide(draft: CheckDraft, item: Item[ReleaseRequest]) -> CheckView:
            return draft.release(
                by=item.user_id,
                reason=item.request.reason,
                request_id=item.context.request_id,
                chance=self._draw(),
            )

        return await self._change(list(items), decide, render)

    async def _change(
        self,
        items: Sequence[Item[R]],
        decide: Callable[[CheckDraft, Item[R]], V],
        render: Callable[[V], bytes],
    ) -> list[Outcome]:
        """Carry out these requests under their locks, in their order, each once per key."""

        def carry_out(
            facts: Facts, items: Sequence[Item[R]]
        ) -> tuple[list[V | ServiceError], IdentityChanges]:
            failures: dict[str, int] = {}
            drafts = {
                key: CheckDraft(known, self._rules, self._grace, failures) for key, known in facts.items()
            }
            results: list[V | ServiceError] = []
            for item in items:
                draft = drafts.get(SessionKey(item.request.user_id, item.request.session_id))
                try:
                    results.append(no_such_session() if draft is None else decide(draft, item))
                except ServiceError as refusal:
                    results.append(refusal)
            changed = [draft for draft in drafts.values() if draft.changed]
            return results, IdentityChanges(
                sessions=[draft.session for draft in changed],
                events=[event for draft in changed for event in draft.new_events],
            )

        async def attempt(some: Sequence[Item[R]], wait: bool) -> list[Outcome | Locked]:
            return await self._store.change_checks(some, carry_out, render=render, wait=wait)

        if not items:
            return []
        return await run_isolated(items, attempt, owner_of=lambda item: item.request.user_id)

    async def _hashed(self, item: Item[EnrollRequest]) -> WantedEnrollment | ServiceError:
        prompts = [prompt for prompt, _ in item.request.questions]
        try:
            answers = [normalized_answer(answer) for _, answer in item.request.questions]
            hashes = await self._hashing.hash_answers(item.user_id, answers)
        except ServiceError as refusal:
            return refusal
        return WantedEnrollment([IdentityQuestion(*each) for each in zip(prompts, hashes, strict=True)])

    async def _judged(self, item: Item[CheckAnswer], facts: Facts) -> ComparedAnswer | ServiceError:
        """The answer, compared with the question that is asked now, if a comparison can count."""
        request = item.request
        known = facts.get(SessionKey(request.user_id, request.session_id))
        nothing = ComparedAnswer(request.user_id, request.session_id, request.check_number, None, right=False)
        if known is None or known.enrollment is None:
            return nothing
        countable = (
            check_due(known.session, known.now)
            and progress_of(known.events).check_number == request.check_number
            and known.failures_today < self._rules.failures_per_day_max
        )
        name = name_of_check(known, known.session, request.check_number)
        if not countable or name is None:
            return nothing
        stored = known.enrollment.questions[name.position].answer
        try:
            right = await self._hashing.matches(request.user_id, normalized_answer(request.answer), stored)
        except ServiceError as refusal:
            return refusal
        return replace(nothing, compared_with=name, right=right)

    def _fingerprint(self, item: Item[CheckAnswer]) -> bytes:
        return blake2b(item.fingerprint, digest_size=16, key=self._secret).digest()
