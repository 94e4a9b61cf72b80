-- Who asked for a session, and for each answer, by which request and in which recorded trace. Rows from before have
-- none. `answers.version` is the version of the session after the answer: it orders the timeline.
ALTER TABLE sessions ADD COLUMN start_request_id text;
ALTER TABLE sessions ADD COLUMN start_trace_id text;
ALTER TABLE answers ADD COLUMN version integer;
ALTER TABLE answers ADD COLUMN request_id text;
ALTER TABLE answers ADD COLUMN trace_id text;

ALTER TABLE sessions ADD CONSTRAINT sessions_start_ids_bounded CHECK (
    char_length(start_request_id) <= 128 AND char_length(start_trace_id) = 32
) NOT VALID;
ALTER TABLE answers ADD CONSTRAINT answers_ids_bounded CHECK (
    char_length(request_id) <= 128 AND char_length(trace_id) = 32 AND version > 1
) NOT VALID;

-- The part of a session's timeline that no other row tells: its moves, and the refusals worth seeing. The start is
-- told by the session's own row, an answer by its own row. `number` orders the entries of one version.
CREATE TABLE session_events (
    user_id text NOT NULL,
    session_id uuid NOT NULL,
    version integer NOT NULL,
    number integer NOT NULL,
    kind text NOT NULL,
    happened_at timestamptz NOT NULL,
    actor_id text NOT NULL,
    request_id text NOT NULL,
    trace_id text,
    reason text NOT NULL,
    note text NOT NULL,
    CONSTRAINT session_events_once PRIMARY KEY (user_id, session_id, version, number),
    CONSTRAINT session_events_of_session FOREIGN KEY (user_id, session_id)
    REFERENCES sessions (user_id, session_id),
    CONSTRAINT session_events_kind_known CHECK (
        kind IN ('paused', 'resumed', 'completed', 'abandoned', 'expired', 'refused')
    ),
    CONSTRAINT session_events_numbers_bounded CHECK (version > 0 AND number BETWEEN 1 AND 1000),
    CONSTRAINT session_events_texts_bounded CHECK (
        char_length(actor_id) <= 128 AND char_length(request_id) <= 128 AND char_length(trace_id) = 32
        AND char_length(reason) <= 100 AND char_length(note) <= 500
    ),
    CONSTRAINT session_events_time_in_range CHECK (
        happened_at >= '2000-01-01' AND happened_at < '2100-01-01'
    )
);
