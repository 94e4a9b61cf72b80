-- The rows of operations that earn something, as one array (`store/earning.py`). The type never changes: the previous
-- version of progress_service may still send its rows.
CREATE TYPE earning AS (
    user_id text,
    operation_id uuid,
    earned_at timestamptz,
    specialization text,
    xp integer,
    active_day date,
    enrolled bigint,
    completed_lessons bigint,
    completed_sessions bigint,
    questions_answered bigint,
    answers bigint,
    correct bigint
);
