"""Completions: each is one transaction with the access to the next lesson, XP, totals and events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError
from chassis.postgres import Connection, Database
from chassis.postgres.isolation import Locked
from chassis.postgres.keyed import Render
from progress_service.domain.completions import Completion, CompletionRequest, CourseBook
from progress_service.domain.courses import no_such_course
from progress_service.domain.statistics import UserId
from progress_service.store.books import Books, Written, read_books, write_books
from progress_service.store.learner_changes import Refusals, change_learners
from progress_service.store.learners import LearnerRows
from progress_service.store.standings import Attendance, StandingReader
from progress_service.store.watching import Video, read_watched


class CompletionStore:
    """Raises what `Database` raises. `wake_relay` is called after a commit with events."""

    def __init__(
        self, *, database: Database, standings: StandingReader, wake_relay: Callable[[], object]
    ) -> None:
        self._database = database
        self._learners = LearnerRows(database)
        self._standings = standings
        self._wake_relay = wake_relay

    async def ensure_learners(
        self, user_ids: Collection[UserId], *, certainly: bool, deadline: float
    ) -> None:
        """Give each learner a row of totals, as `LearnerRows` does; `complete` needs it."""
        await self._learners.ensure(user_ids, certainly=certainly, deadline=deadline)

    async def complete(
        self,
        items: Sequence[Item[CompletionRequest]],
        wait: bool,
        *,
        refusals: Refusals,
        render: Render[Completion],
    ) -> list[Outcome | Locked]:
        """Complete each lesson, once per key and once per lesson, one after the other."""
        levels_changed = False

        async def decide(
            connection: Connection, items: Sequence[Item[CompletionRequest]]
        ) -> list[Completion | ServiceError]:
            nonlocal levels_changed
            requests = [item.request for item in items]
            attended = list(map(_attendance, requests))
            books = await read_books(connection, set(attended), self._standings)
            watched = await read_watched(connection, _demanding(requests, books))
            decisions: list[int | ServiceError] = []
            for request, each in zip(requests, attended, strict=True):
                book = books.get(each)
                if book is None:
                    decisions.append(no_such_course(request.course_id))
                else:
                    decisions.append(book.complete(request, watched.get(_video(request, book), ())))
            written = await write_books(connection, books)
            levels_changed = written.levels_changed
            return [
                decision
                if isinstance(decision, ServiceError)
                else _completion(request, decision, books[each], written)
                for request, each, decision in zip(requests, attended, decisions, strict=True)
            ]

        outcomes = await change_learners(
            self._database,
            items,
            decide,
            refusals=refusals,
            wait=wait,
            render=render,
            name="complete_lessons",
        )
        if levels_changed:
            self._wake_relay()
        return outcomes


def _attendance(request: CompletionRequest) -> Attendance:
    return Attendance(request.user_id, request.course_id)


def _video(request: CompletionRequest, book: CourseBook) -> Video:
    return Video(request.user_id, request.course_id, book.standing.epoch, *request.name)


def _demanding(requests: Iterable[CompletionRequest], books: Books) -> set[Video]:
    """The videos that must have been watched before these lessons can be completed."""
    wanted: set[Video] = set()
    for request in requests:
        book = books.get(_attendance(request))
        lesson = None if book is None else book.edition.lessons.get(request.name)
        if book is not None and lesson is not None and lesson.min_watched_ratio is not None:
            wanted.add(_video(request, book))
    return wanted


def _completion(request: CompletionRequest, xp: int, book: CourseBook, written: Written) -> Completion:
    return book.completion_of(request.name, xp, version=written.version(book))
