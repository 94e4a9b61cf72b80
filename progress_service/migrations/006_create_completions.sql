-- What a learner does in a course. `since_revision` and `revision` are those of the course at that moment: they tell
-- which orders of the lessons the learner has seen. `epoch` is the learner's epoch for the course, which a reset begins;
-- what belongs to an older one is kept, and does not count any more.

CREATE TABLE enrollments (
    user_id text NOT NULL,
    course_id text NOT NULL,
    epoch integer NOT NULL,
    since_revision integer NOT NULL,
    completed_lessons integer NOT NULL DEFAULT 0,
    enrolled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at timestamptz,
    CONSTRAINT enrollments_once PRIMARY KEY (user_id, course_id),
    CONSTRAINT enrollments_of_course FOREIGN KEY (course_id) REFERENCES courses (course_id),
    CONSTRAINT enrollments_bounded CHECK (
        length(user_id) BETWEEN 1 AND 128 AND epoch >= 0 AND since_revision >= 1 AND completed_lessons BETWEEN 0 AND 10000
    ),
    CONSTRAINT enrollments_completed_with_lessons CHECK (completed_at IS NULL OR completed_lessons > 0)
) WITH (fillfactor = 80);

CREATE TABLE lesson_completions (
    user_id text NOT NULL,
    course_id text NOT NULL,
    epoch integer NOT NULL,
    module_id text NOT NULL,
    lesson_id text NOT NULL,
    revision integer NOT NULL,
    xp integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    completed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The course is that of the module, so this is one row for each lesson of a learner in an epoch.
    CONSTRAINT lesson_completions_once PRIMARY KEY (user_id, course_id, epoch, module_id, lesson_id),
    CONSTRAINT lesson_completions_of_lesson FOREIGN KEY (module_id, lesson_id)
    REFERENCES lessons (module_id, lesson_id),
    CONSTRAINT lesson_completions_of_enrollment FOREIGN KEY (user_id, course_id)
    REFERENCES enrollments (user_id, course_id),
    CONSTRAINT lesson_completions_bounded CHECK (
        length(user_id) BETWEEN 1 AND 128 AND epoch >= 0 AND revision >= 1 AND xp BETWEEN 0 AND 1000000
        AND isfinite(occurred_at) AND occurred_at >= '2000-01-01 00:00:00+00'
        AND occurred_at < '2100-01-01 00:00:00+00'
    )
);
