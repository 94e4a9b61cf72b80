"""homeroom.progress.v1.LessonService: its messages, converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chassis.batch import Item, Outcome
from chassis.errors import ServiceError, invalid_field
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, keyed, paged, plain
from chassis.rpc.timestamps import moment_of, timestamp
from progress_service.domain.access import Access, AccessAnswer, AccessQuery, ProgressQuery, Source
from progress_service.domain.completions import Completion, CompletionRequest
from progress_service.domain.courses import CourseId, LessonName
from progress_service.domain.enrollments import Enrollment, EnrollRequest
from progress_service.domain.statistics import UserId
from progress_service.domain.watching import Range, Watched, WatchRequest, milliseconds
from progress_service.operations.access import AccessOperations
from progress_service.operations.completions import CompletionOperations
from progress_service.operations.enrollments import EnrollmentOperations
from progress_service.operations.watching import WatchingOperations
from progress_service.servicer.counts import shown
from protos.progress.v1 import lessons_pb2 as pb

SERVICE = "/homeroom.progress.v1.LessonService"

_REASONS: Mapping[Access, Any] = {
    Access.PREREQUISITE_INCOMPLETE: pb.GetLessonAccessResponse.PREREQUISITE_INCOMPLETE,
    Access.FIRST_LESSON: pb.GetLessonAccessResponse.FIRST_LESSON,
    Access.PREREQUISITE_COMPLETED: pb.GetLessonAccessResponse.PREREQUISITE_COMPLETED,
    Access.STARTED: pb.GetLessonAccessResponse.STARTED,
    Access.COMPLETED: pb.GetLessonAccessResponse.COMPLETED,
}
_SOURCES: Mapping[Source, Any] = {
    Source.CACHE: pb.GetLessonAccessResponse.CACHE,
    Source.STORE: pb.GetLessonAccessResponse.STORE,
}
# protobuf reads concatenated encodings as one merged message.
_CACHED = pb.CompleteLessonResponse(cache_updated=True).SerializeToString()


def handlers(
    *,
    enrollments: EnrollmentOperations,
    completions: CompletionOperations,
    access: AccessOperations,
    watching: WatchingOperations,
    list_enrollments: PagedOperation[UserId, Enrollment],
    tokens: PageTokens,
) -> list[Handler]:
    """Every method of the service."""

    async def complete(
        items: Sequence[Item[CompletionRequest]], render: Callable[[Completion], bytes]
    ) -> list[Outcome]:
        return await completions.complete_lessons(items, render, cached=_CACHED)

    async def get_access(
        items: Sequence[Item[AccessQuery]],
    ) -> list[tuple[AccessAnswer, LessonName] | ServiceError]:
        answers = await access.get_access(items)
        return [
            answer if isinstance(answer, ServiceError) else (answer, item.request.name)
            for item, answer in zip(items, answers, strict=True)
        ]

    async def put_watched(
        items: Sequence[Item[tuple[WatchRequest, str]]],
    ) -> list[tuple[Watched, str] | ServiceError]:
        answers = await watching.put_watched([item.asking(item.request[0]) for item in items])
        return [
            answer if isinstance(answer, ServiceError) else (answer, item.request[1])
            for item, answer in zip(items, answers, strict=True)
        ]

    return [
        keyed(
            f"{SERVICE}/Enroll",
            _enroll_request,
            enrollments.enroll,
            lambda enrollment: pb.EnrollResponse(enrollment=_enrollment(enrollment)),
        ),
        paged(
            f"{SERVICE}/ListEnrollments",
            lambda item: UserId(item.user_id),
            list_enrollments,
            _enrollment,
            position=lambda enrollment: (enrollment.course_id,),
            tokens=tokens,
        ),
        keyed(f"{SERVICE}/CompleteLesson", _completion_request, complete, _completion),
        plain(f"{SERVICE}/GetLessonAccess", _access_query, get_access, _access),
        plain(f"{SERVICE}/PutWatched", _watch_request, put_watched, _watched),
        plain(f"{SERVICE}/GetProgress", _progress_query, access.get_progress, _progress),
    ]


def _enroll_request(item: Item[pb.EnrollRequest]) -> EnrollRequest:
    return EnrollRequest(UserId(item.user_id), CourseId(item.request.course_id))


def _completion_request(item: Item[pb.CompleteLessonRequest]) -> CompletionRequest:
    request = item.request
    return CompletionRequest(
        user_id=UserId(item.user_id),
        name=LessonName(request.module_id, request.lesson_id),
        occurred_at=moment_of(request.occurred_at, "occurredAt") if request.HasField("occurred_at") else None,
    )


def _access_query(item: Item[pb.GetLessonAccessRequest]) -> AccessQuery:
    request = item.request
    return AccessQuery(
        user_id=UserId(item.user_id),
        name=LessonName(request.module_id, request.lesson_id),
        min_version=request.min_version,
    )


def _progress_query(item: Item[pb.GetProgressRequest]) -> ProgressQuery:
    return ProgressQuery(UserId(item.user_id), CourseId(item.request.course_id), item.request.min_version)


def _watch_request(item: Item[pb.PutWatchedRequest]) -> tuple[WatchRequest, str]:
    request = item.request
    for place, each in enumerate(request.ranges):
        if each.to_seconds < each.from_seconds:
            raise invalid_field(f"ranges[{place}].toSeconds", "must not be before fromSeconds")
    return (
        WatchRequest(
            user_id=UserId(item.user_id),
            name=LessonName(request.module_id, request.lesson_id),
            ranges=tuple(
                Range(milliseconds(each.from_seconds), milliseconds(each.to_seconds))
                for each in request.ranges
            ),
        ),
        request.op_id,
    )


def _enrollment(enrollment: Enrollment) -> pb.Enrollment:
    return pb.Enrollment(
        course_id=enrollment.course_id,
        enrolled_at=timestamp(enrollment.enrolled_at),
        completed_lessons=enrollment.completed_lessons,
        total_lessons=enrollment.total_lessons,
        completed_at=timestamp(enrollment.completed_at),
        version=shown(enrollment.version),
    )


def _completion(completion: Completion) -> pb.CompleteLessonResponse:
    following = completion.next
    return pb.CompleteLessonResponse(
        success=True,
        db_updated=True,
        version=shown(completion.version),
        xp_awarded=completion.xp_awarded,
        next=None
        if following is None
        else pb.CompleteLessonResponse.Next(
            module_id=following.name.module_id,
            lesson_id=following.name.lesson_id,
            accessible=following.accessible,
        ),
    )


def _access(answered: tuple[AccessAnswer, LessonName]) -> pb.GetLessonAccessResponse:
    answer, name = answered
    found = answer.access.lessons[name]
    return pb.GetLessonAccessResponse(
        accessible=found.open,
        reason=_REASONS[found],
        source=_SOURCES[answer.source],
        version=shown(answer.access.version),
    )


def _watched(answered: tuple[Watched, str]) -> pb.PutWatchedResponse:
    watched, op_id = answered
    return pb.PutWatchedResponse(
        ranges=[
            pb.WatchedRange(from_seconds=each.from_ms / 1000, to_seconds=each.to_ms / 1000)
            for each in watched.ranges
        ],
        watched_ratio=watched.ratio,
        version=shown(watched.version),
        op_id=op_id,
    )


def _progress(answer: AccessAnswer) -> pb.GetProgressResponse:
    access = answer.access
    return pb.GetProgressResponse(
        progress=pb.Progress(
            course_id=access.course_id,
            lessons=[
                pb.Progress.LessonProgress(
                    module_id=name.module_id,
                    lesson_id=name.lesson_id,
                    status=_status(each),
                    reason=_REASONS[each],
                )
                for name, each in access.lessons.items()
            ],
            completed_lessons=access.completed_lessons,
            total_lessons=access.total_lessons,
            source=_SOURCES[answer.source],
            version=shown(access.version),
        )
    )


def _status(access: Access) -> Any:
    if access is Access.COMPLETED:
        return pb.Progress.COMPLETED
    return pb.Progress.OPEN if access.open else pb.Progress.LOCKED
