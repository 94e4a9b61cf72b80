-- The catalog of courses. Nothing is ever deleted from it: what is left out is marked, and stays as it was for the
-- learners who have reached it.

CREATE TABLE courses (
    course_id text NOT NULL,
    title text NOT NULL DEFAULT '',
    specialization text,
    revision integer NOT NULL DEFAULT 0,
    total_lessons integer NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT courses_once PRIMARY KEY (course_id),
    CONSTRAINT courses_bounded CHECK (
        length(course_id) BETWEEN 1 AND 64 AND length(title) <= 300 AND length(specialization) BETWEEN 1 AND 63
        AND revision >= 0 AND total_lessons BETWEEN 0 AND 1000
    )
);

-- A lesson is addressed by its module, without its course. So a module belongs to one course for ever.
CREATE TABLE modules (
    module_id text NOT NULL,
    course_id text NOT NULL,
    title text NOT NULL,
    position integer NOT NULL,
    removed boolean NOT NULL DEFAULT false,
    CONSTRAINT modules_of_one_course PRIMARY KEY (module_id),
    CONSTRAINT modules_of_course FOREIGN KEY (course_id) REFERENCES courses (course_id),
    CONSTRAINT modules_bounded CHECK (
        length(module_id) BETWEEN 1 AND 64 AND length(title) BETWEEN 1 AND 300 AND position BETWEEN 0 AND 10000
    )
);
CREATE INDEX modules_by_course ON modules (course_id);

-- `position` is the place within the course.
CREATE TABLE lessons (
    module_id text NOT NULL,
    lesson_id text NOT NULL,
    course_id text NOT NULL,
    title text NOT NULL,
    xp integer NOT NULL,
    video_seconds double precision,
    min_watched_ratio double precision,
    position integer NOT NULL,
    removed boolean NOT NULL DEFAULT false,
    CONSTRAINT lessons_once PRIMARY KEY (module_id, lesson_id),
    CONSTRAINT lessons_of_module FOREIGN KEY (module_id) REFERENCES modules (module_id),
    CONSTRAINT lessons_bounded CHECK (
        length(lesson_id) BETWEEN 1 AND 64 AND length(title) BETWEEN 1 AND 300 AND xp BETWEEN 0 AND 1000000
        AND video_seconds BETWEEN 0.001 AND 86400 AND min_watched_ratio BETWEEN 0 AND 1
        AND position BETWEEN 0 AND 10000
    ),
    CONSTRAINT lessons_demand_only_a_video CHECK (min_watched_ratio IS NULL OR video_seconds IS NOT NULL)
);
CREATE INDEX lessons_by_course ON lessons (course_id);

-- Which lesson ever came directly after which; the first lesson comes after ('', ''). A succession ended when the
-- course had the revision `until_revision`; NULL while it holds. Whoever completed the lesson before at an earlier
-- revision may take the lesson after it, whatever was put between them later.
CREATE TABLE lesson_successions (
    course_id text NOT NULL,
    module_id text NOT NULL,
    lesson_id text NOT NULL,
    after_module_id text NOT NULL,
    after_lesson_id text NOT NULL,
    until_revision integer,
    CONSTRAINT lesson_successions_once PRIMARY KEY (
        course_id, module_id, lesson_id, after_module_id, after_lesson_id
    ),
    CONSTRAINT lesson_successions_of_lesson FOREIGN KEY (module_id, lesson_id)
    REFERENCES lessons (module_id, lesson_id),
    CONSTRAINT lesson_successions_end_after_the_first_revision CHECK (until_revision > 1)
);
