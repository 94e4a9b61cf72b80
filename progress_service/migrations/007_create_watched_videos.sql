-- What a learner has watched of a lesson's video, in milliseconds: a union that only grows.
CREATE TABLE watched_videos (
    user_id text NOT NULL,
    course_id text NOT NULL,
    epoch integer NOT NULL,
    module_id text NOT NULL,
    lesson_id text NOT NULL,
    ranges int4multirange NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT watched_videos_once PRIMARY KEY (user_id, course_id, epoch, module_id, lesson_id),
    CONSTRAINT watched_videos_of_lesson FOREIGN KEY (module_id, lesson_id) REFERENCES lessons (module_id, lesson_id),
    CONSTRAINT watched_videos_bounded CHECK (
        length(user_id) BETWEEN 1 AND 128 AND epoch >= 0 AND NOT isempty(ranges)
        AND lower(ranges) >= 0 AND upper(ranges) <= 86400000 AND length(ranges::text) <= 40000
    )
) WITH (fillfactor = 70);
