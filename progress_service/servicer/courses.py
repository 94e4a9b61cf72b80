"""homeroom.progress.v1.CourseService: its messages, converted."""

from __future__ import annotations

from chassis.batch import Item
from chassis.errors import invalid_field
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, paged, plain
from progress_service.domain.courses import CourseDraft, CourseId, CourseSummary, Edition, Lesson, Module
from progress_service.operations.courses import CourseOperations
from protos.progress.v1 import courses_pb2 as pb

SERVICE = "/homeroom.progress.v1.CourseService"


def handlers(
    *, courses: CourseOperations, list_courses: PagedOperation[None, CourseSummary], tokens: PageTokens
) -> list[Handler]:
    """Every method of the service."""
    return [
        plain(
            f"{SERVICE}/PutCourse",
            _draft,
            courses.put_courses,
            lambda edition: pb.PutCourseResponse(course=_course(edition)),
        ),
        plain(
            f"{SERVICE}/GetCourse",
            _course_id,
            courses.get_courses,
            lambda edition: pb.GetCourseResponse(course=_course(edition)),
        ),
        paged(
            f"{SERVICE}/ListCourses",
            lambda _: None,
            list_courses,
            _summary,
            position=lambda course: (course.course_id,),
            tokens=tokens,
        ),
    ]


def _course_id(item: Item[pb.GetCourseRequest]) -> str:
    return item.request.course_id


def _draft(item: Item[pb.PutCourseRequest]) -> CourseDraft:
    request = item.request
    return CourseDraft(
        course_id=CourseId(request.course_id),
        title=_text(request.title, "title"),
        specialization=request.specialization if request.HasField("specialization") else None,
        modules=tuple(
            Module(
                module_id=module.module_id,
                title=_text(module.title, f"modules[{place}].title"),
                lessons=tuple(
                    _lesson(module.module_id, lesson, f"modules[{place}].lessons[{number}].title")
                    for number, lesson in enumerate(module.lessons)
                ),
            )
            for place, module in enumerate(request.modules)
        ),
    )


def _lesson(module_id: str, lesson: pb.Lesson, field: str) -> Lesson:
    return Lesson(
        module_id=module_id,
        lesson_id=lesson.lesson_id,
        title=_text(lesson.title, field),
        xp=lesson.xp,
        video_seconds=lesson.video_seconds if lesson.HasField("video_seconds") else None,
        min_watched_ratio=lesson.min_watched_ratio if lesson.HasField("min_watched_ratio") else None,
    )


def _text(text: str, field: str) -> str:
    if "\0" in text:
        raise invalid_field(field, "holds a NUL character")
    return text


def _course(edition: Edition) -> pb.Course:
    return pb.Course(
        course_id=edition.course_id,
        title=edition.title,
        specialization=edition.specialization,
        modules=[
            pb.Module(
                module_id=module.module_id,
                title=module.title,
                lessons=[
                    pb.Lesson(
                        lesson_id=lesson.lesson_id,
                        title=lesson.title,
                        xp=lesson.xp,
                        video_seconds=lesson.video_seconds,
                        min_watched_ratio=lesson.min_watched_ratio,
                    )
                    for lesson in module.lessons
                ],
            )
            for module in edition.modules
        ],
        revision=edition.revision,
    )


def _summary(course: CourseSummary) -> pb.CourseSummary:
    return pb.CourseSummary(
        course_id=course.course_id,
        title=course.title,
        specialization=course.specialization,
        total_lessons=course.total_lessons,
        revision=course.revision,
    )
