"""Operations that a client uploads together: each is carried out once, and none hinders another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chassis.batch import Item, Outcome
from chassis.errors import Reason, ServiceError
from chassis.postgres.idempotency import CompletedCall
from chassis.postgres.refusals import busy
from session_service.domain.ids import SessionId
from session_service.domain.presence import Heartbeat, Presence
from session_service.domain.sessions import AnswerRequest, CloseRequest, JudgedAnswer, Session
from session_service.operations.change_sessions import answering, completing
from session_service.operations.drafts import Draft
from session_service.operations.read_sessions import SessionReads
from session_service.operations.record_presence import SessionPresence
from session_service.operations.session_changes import SessionChanges

# Operations that are carried out together; the uploads of one message are split at this size.
OPERATIONS_PER_TRANSACTION_MAX = 400

KeyedRequest = AnswerRequest | CloseRequest
OperationRequest = KeyedRequest | Heartbeat


@dataclass(frozen=True, slots=True)
class UploadedOperation:
    """An operation as its own route would get it, with its `op_id` as key; or why it cannot be one."""

    op_id: str
    item: Item[OperationRequest] | ServiceError

    def asks_for(self, kind: type[OperationRequest]) -> bool:
        """Whether it can be carried out, and is of this kind."""
        return isinstance(self.item, Item) and isinstance(self.item.request, kind)


@dataclass(frozen=True, slots=True)
class Upload:
    """Operations on one session of the caller."""

    session_id: SessionId
    operations: Sequence[UploadedOperation]


@dataclass(frozen=True, slots=True)
class OperationOutcome:
    """What became of an operation."""

    operation: UploadedOperation
    outcome: Outcome | Presence


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """Renders the answers that are stored with the keys: the same bytes as by the operations' own routes."""

    answer: Callable[[JudgedAnswer], bytes]
    completion: Callable[[Session], bytes]


class Uploads:
    """Carries out uploads; each operation goes the way of its own route."""

    def __init__(
        self,
        *,
        reads: SessionReads,
        changes: SessionChanges,
        presence: SessionPresence,
        stored: StoredAnswers,
    ) -> None:
        self._reads = reads
        self._changes = changes
        self._presence = presence
        self._answer = answering(stored.answer)
        self._complete = completing(stored.completion)

    async def upload_operations(
        self, items: Sequence[Item[Upload]]
    ) -> list[list[OperationOutcome] | ServiceError]:
        """The outcomes of each upload, in the order of its operations.

        An upload whose session does not exist is refused with NOT_FOUND.
        """
        outcomes: list[list[OperationOutcome]] = []
        for uploads in _in_transactions([item.request.operations for item in items]):
            outcomes += await self._carry_out(uploads)
        missing = await self._missing(items)
        return [missing.get(place) or _not_found(some) or some for place, some in enumerate(outcomes)]

    async def _missing(self, items: Sequence[Item[Upload]]) -> dict[int, ServiceError]:
        """The uploads that could not be tried at all, and whose session does not exist either, by place."""
        untried = [
            place
            for place, item in enumerate(items)
            if all(isinstance(each.item, ServiceError) for each in item.request.operations)
        ]
        if not untried:
            return {}
        wanted = [items[place].asking(items[place].request.session_id) for place in untried]
        found = await self._reads.get_sessions(wanted)
        return {
            place: session
            for place, session in zip(untried, found, strict=True)
            if isinstance(session, ServiceError)
        }

    async def _carry_out(
        self, uploads: Sequence[Sequence[UploadedOperation]]
    ) -> list[list[OperationOutcome]]:
        """The heartbeats in one transaction, then the answers, then the completions.

        A session is not completed while one of its operations can still count: it would be refused then.
        """
        outcomes: dict[int, Outcome | Presence] = {
            id(each): each.item
            for upload in uploads
            for each in upload
            if isinstance(each.item, ServiceError)
        }
        for kind in (Heartbeat, AnswerRequest, CloseRequest):
            due: list[UploadedOperation] = []
            for upload in uploads:
                of_kind = [each for each in upload if each.asks_for(kind)]
                hindrance = _hindrance(upload, outcomes) if kind is CloseRequest else None
                if hindrance is None:
                    due += of_kind
                else:
                    outcomes.update({id(each): hindrance for each in of_kind})
            outcomes.update(zip(map(id, due), await self._apply(kind, due), strict=True))
        return [[OperationOutcome(each, outcomes[id(each)]) for each in upload] for upload in uploads]

    async def _apply(
        self, kind: type[OperationRequest], operations: Sequence[UploadedOperation]
    ) -> Sequence[Outcome | Presence]:
        items: list[Item[Any]] = [each.item for each in operations if isinstance(each.item, Item)]
        if not items:
            return []
        if kind is Heartbeat:
            return await self._presence.record_heartbeats(items)
        return await self._changes.apply(items, self._decide)

    def _decide(self, draft: Draft, item: Item[KeyedRequest], now: datetime) -> CompletedCall:
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


def _not_found(outcomes: Sequence[OperationOutcome]) -> ServiceError | None:
    """The refusal of operations whose session does not exist: they share it."""
    became = [each.outcome for each in outcomes]
    missing = (each for each in became if isinstance(each, ServiceError) and each.reason is Reason.NOT_FOUND)
    return next(missing, None)


def _hindrance(
    upload: Sequence[UploadedOperation], outcomes: Mapping[int, Outcome | Presence]
) -> ServiceError | None:
    """Why the session of the upload cannot be completed yet: some of its other operations can still count.

    They have to be sent again; or the session is paused, and they count once it is resumed.
    """
    became = [outcomes.get(id(each)) for each in upload]
    refused = [each for each in became if isinstance(each, ServiceError)]
    if any(each.reason.retryable for each in refused):
        return busy("Other operations of this upload must be sent again first")
    return next((each for each in refused if each.reason is Reason.ILLEGAL_TRANSITION), None)


def is_conflict(error: ServiceError) -> bool:
    """Whether the key of an operation was used for another one."""
    return error.reason is Reason.IDEMPOTENCY_KEY_REUSED
