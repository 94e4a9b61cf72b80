-- Rows of a file on their way into the tables of progress: read and checked, not yet merged. What a crash leaves
-- here is deleted by the next import; the file is the truth, so the table need not survive a crash of the server.
CREATE UNLOGGED TABLE import_rows (
    user_id text NOT NULL,
    import_id uuid NOT NULL,
    line bigint NOT NULL,
    specialization text,
    level integer,
    xp integer,
    module_id text,
    lesson_id text,
    happened_at timestamptz NOT NULL,
    staged_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT import_rows_once PRIMARY KEY (user_id, import_id, line),
    CONSTRAINT import_rows_texts_within_bounds CHECK (
        length(user_id) BETWEEN 1 AND 128 AND length(specialization) BETWEEN 1 AND 63
        AND length(module_id) BETWEEN 1 AND 64 AND length(lesson_id) BETWEEN 1 AND 64
    ),
    CONSTRAINT import_rows_numbers_within_bounds CHECK (
        line > 0 AND level BETWEEN 0 AND 10000 AND xp BETWEEN 0 AND 1000000
    ),
    CONSTRAINT import_rows_of_one_kind CHECK (
        (specialization IS NOT NULL AND level IS NOT NULL AND xp IS NOT NULL
         AND module_id IS NULL AND lesson_id IS NULL)
        OR (specialization IS NULL AND level IS NULL AND xp IS NULL
            AND module_id IS NOT NULL AND lesson_id IS NOT NULL)
    ),
    CONSTRAINT import_rows_happened_at_within_bounds CHECK (
        isfinite(happened_at) AND happened_at >= '2000-01-01 00:00:00+00' AND happened_at < '2100-01-01 00:00:00+00'
    )
);
