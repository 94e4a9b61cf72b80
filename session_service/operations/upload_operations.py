"""Operations that a client uploads together: each is carried out once, and none hinders another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.batch import Item, Outcome
from chassis.errors import Reason, ServiceError
from chassis.postgres.idempotency import CompletedCall
from chassis.postgres.refusals import busy
from session_service.domain.sessions import AnswerRequest, CloseRequest, JudgedAnswer, Session
from session_service.operations.change_sessions import answering, completing
from session_service.operations.drafts import Draft
from session_service.operations.session_changes import SessionChanges

# Operations of one transaction; the uploads of one message are split at this size.
OPERATIONS_PER_TRANSACTION_MAX = 400

OperationRequest = AnswerRequest | CloseRequest


@dataclass(frozen=True, slots=True)
class UploadedOperation:
    """An operation as its own route would get it, with its `op_id` as key; or why it cannot be one."""

    op_id: str
    item: Item[OperationRequest] | ServiceError

    @property
    def completes(self) -> bool:
        """Whether it ends the session, so that it comes after the others."""
        return isinstance(self.item, Item) and isinstance(self.item.request, CloseRequest)


@dataclass(frozen=True, slots=True)
class OperationOutcome:
    """What became of an operation."""

    operation: UploadedOperation
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """Renders the answers that are stored with the keys: the same bytes as by the operations' own routes."""

    answer: Callable[[JudgedAnswer], bytes]
    completion: Callable[[Session], bytes]


class Uploads:
    """Carries out uploads; each operation goes the way of its own route."""

    def __init__(self, *, changes: SessionChanges, stored: StoredAnswers) -> None:
        self._changes = changes
        self._answer = answering(stored.answer)
        self._complete = completing(stored.completion)

    async def upload_operations(
        self, items: Sequence[Item[Sequence[UploadedOperation]]]
    ) -> list[list[OperationOutcome]]:
        """The outcomes of each upload, in the order of its operations."""
        outcomes: list[list[OperationOutcome]] = []
        for uploads in _in_transactions([item.request for item in items]):
            outcomes += await self._carry_out(uploads)
        return outcomes

    async def _carry_out(
        self, uploads: Sequence[Sequence[UploadedOperation]]
    ) -> list[list[OperationOutcome]]:
        """All operations but the completions in one transaction, then the completions in another.

        A session is not completed while one of its operations has to be sent again: it would be refused then.
        """
        first = [each for upload in uploads for each in upload if not each.completes]
        outcomes = await self._apply(first)
        complete = [
            each
            for upload in uploads
            if not any(_worth_a_retry(outcomes[id(other)]) for other in upload if not other.completes)
            for each in upload
            if each.completes
        ]
        outcomes |= await self._apply(complete)
        too_early = busy("Other operations of this upload must be sent again first")
        return [
            [OperationOutcome(each, outcomes.get(id(each), too_early)) for each in upload]
            for upload in uploads
        ]

    async def _apply(self, operations: Sequence[UploadedOperation]) -> dict[int, Outcome]:
        """The outcome of each of these operations, by its identity."""
        outcomes: dict[int, Outcome] = {}
        valid: list[UploadedOperation] = []
        items: list[Item[OperationRequest]] = []
        for each in operations:
            if isinstance(each.item, ServiceError):
                outcomes[id(each)] = each.item
            else:
                valid.append(each)
                items.append(each.item)
        if items:
            applied = await self._changes.apply(items, self._decide)
            outcomes.update((id(each), outcome) for each, outcome in zip(valid, applied, strict=True))
        return outcomes

    def _decide(self, draft: Draft, item: Item[OperationRequest], now: datetime) -> CompletedCall:
        request = item.request
        if isinstance(request, AnswerRequest):
            return self._answer(draft, item.asking(request), now)
        return self._complete(draft, item.asking(request), now)


def _in_transactions(
    uploads: Sequence[Sequence[UploadedOperation]],
) -> Iterator[list[Sequence[UploadedOperation]]]:
    """The uploads in groups of a bounded number of operations, at least one upload in each."""
    group: list[Sequence[UploadedOperation]] = []
    size = 0
    for upload in uploads:
        if group and size + len(upload) > OPERATIONS_PER_TRANSACTION_MAX:
            yield group
            group, size = [], 0
        group.append(upload)
        size += len(upload)
    if group:
        yield group


def _worth_a_retry(outcome: Outcome) -> bool:
    return isinstance(outcome, ServiceError) and outcome.reason.retryable


def is_conflict(error: ServiceError) -> bool:
    """Whether the key of an operation was used for another one."""
    return error.reason is Reason.IDEMPOTENCY_KEY_REUSED
