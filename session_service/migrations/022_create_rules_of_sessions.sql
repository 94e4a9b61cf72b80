-- One CHECK that calls a function takes the place of a table's CHECKs; the migration of the chassis that makes
-- `refuse_row` says why. The rules are those of the CHECKs, in the order in which PostgreSQL looks at them. A
-- later file drops the CHECKs.
CREATE FUNCTION sessions_broken_rule_1(
    answered integer,
    answers_correct integer,
    answers_given integer,
    attempt integer,
    attempts_before integer,
    close_reason text,
    closed_at timestamptz,
    deadline_at timestamptz,
    difficulty text,
    drawn smallint [],
    engaged_seconds double precision,
    heartbeat_seq integer,
    identity_due_seconds double precision,
    identity_lapse_seconds double precision,
    identity_locked_at timestamptz,
    last_answer_at timestamptz,
    lease_check_at timestamptz,
    left_at timestamptz,
    metadata jsonb,
    pause_until timestamptz,
    paused_at timestamptz,
    paused_seconds double precision,
    score double precision,
    seed bigint,
    seen_at timestamptz,
    solved integer,
    start_request_id text,
    start_trace_id text,
    started_at timestamptz,
    state text,
    submitted_at timestamptz,
    test_id text,
    title text,
    total integer,
    user_id text
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (attempt > 0) THEN 'sessions_attempt_positive'
        WHEN NOT (attempts_before >= 0 AND attempts_before < attempt) THEN 'sessions_attempts_before_in_range'
        WHEN NOT (
            close_reason IN (
                'submitted', 'timed_out', 'learner_left', 'lease_lost', 'never_used', 'replaced', 'administrator',
                'abandoned', 'deadline', 'idle'
            )
        ) THEN 'sessions_close_reason_known'
        WHEN NOT (
            (state IN ('active', 'paused')) = (closed_at IS NULL) AND (closed_at IS NULL) = (close_reason IS NULL)
        ) THEN 'sessions_closed_or_live'
        WHEN NOT (
            solved >= 0 AND solved <= answered AND answered <= total
            AND answers_correct >= 0 AND answers_correct <= answers_given AND answered <= answers_given
        ) THEN 'sessions_counts_add_up'
        WHEN NOT (
            (seed IS NULL OR drawn IS NOT NULL) AND cardinality(drawn) = total AND cardinality(drawn) BETWEEN 1 AND 1000
            AND 0 <= ALL(drawn) AND 20000 > ALL(drawn)
        ) THEN 'sessions_draw_bounded'
        WHEN NOT (
            (identity_due_seconds IS NULL) = (identity_lapse_seconds IS NULL)
            AND identity_due_seconds >= 0 AND identity_lapse_seconds > identity_due_seconds
            AND identity_lapse_seconds <= 1e9
        ) THEN 'sessions_identity_check_lapses_after_it_is_due'
        WHEN NOT (
            identity_locked_at >= '2000-01-01 00:00:00+00' AND identity_locked_at < '2100-01-01 00:00:00+00'
        ) THEN 'sessions_identity_locked_in_range'
        WHEN NOT (
            jsonb_typeof(metadata) = 'object'
            AND (started_at < '2026-11-21 00:00:00+00' OR pg_column_size(metadata) <= 8192)
        ) THEN 'sessions_metadata_bounded'
        WHEN NOT (
            (paused_at IS NULL) = (pause_until IS NULL) AND pause_until >= paused_at
            AND (state <> 'paused' OR paused_at IS NOT NULL)
        ) THEN 'sessions_paused_until_known'
        WHEN NOT (
            paused_at >= '2000-01-01 00:00:00+00' AND paused_at < '2100-01-01 00:00:00+00'
            AND pause_until >= '2000-01-01 00:00:00+00' AND pause_until < '2100-01-01 00:00:00+00'
            AND paused_seconds BETWEEN 0 AND 3200000000 AND engaged_seconds BETWEEN 0 AND 3200000000
        ) THEN 'sessions_pauses_in_range'
        WHEN NOT (
            heartbeat_seq > 0
            AND seen_at >= '2000-01-01 00:00:00+00' AND seen_at < '2100-01-01 00:00:00+00'
            AND left_at >= '2000-01-01 00:00:00+00' AND left_at < '2100-01-01 00:00:00+00'
            AND lease_check_at >= '2000-01-01 00:00:00+00' AND lease_check_at < '2100-01-01 00:00:00+00'
        ) THEN 'sessions_presence_in_range'
        WHEN NOT (score BETWEEN 0 AND 1) THEN 'sessions_score_is_a_share'
        WHEN NOT (
            char_length(start_request_id) <= 128 AND char_length(start_trace_id) = 32
        ) THEN 'sessions_start_ids_bounded'
        WHEN NOT (state IN ('active', 'paused', 'completed', 'abandoned', 'expired')) THEN 'sessions_state_known'
        WHEN NOT ((state = 'completed') = (submitted_at IS NOT NULL)) THEN 'sessions_submitted_when_completed'
        WHEN NOT (
            char_length(user_id) BETWEEN 1 AND 128 AND char_length(test_id) BETWEEN 1 AND 128
            AND char_length(title) <= 300 AND char_length(difficulty) <= 50
        ) THEN 'sessions_texts_bounded'
        WHEN NOT (
            started_at >= '2000-01-01 00:00:00+00' AND started_at < '2100-01-01 00:00:00+00'
            AND deadline_at >= '2000-01-01 00:00:00+00' AND deadline_at < '2100-01-01 00:00:00+00'
            AND last_answer_at >= '2000-01-01 00:00:00+00' AND last_answer_at < '2100-01-01 00:00:00+00'
            AND submitted_at >= '2000-01-01 00:00:00+00' AND submitted_at < '2100-01-01 00:00:00+00'
            AND closed_at >= '2000-01-01 00:00:00+00' AND closed_at < '2100-01-01 00:00:00+00'
        ) THEN 'sessions_times_in_range'
    END;
END
$$;
ALTER TABLE sessions ADD CONSTRAINT sessions_rules_1 CHECK (
    refuse_row(sessions_broken_rule_1(
        answered, answers_correct, answers_given, attempt, attempts_before, close_reason, closed_at, deadline_at,
        difficulty, drawn, engaged_seconds, heartbeat_seq, identity_due_seconds, identity_lapse_seconds,
        identity_locked_at, last_answer_at, lease_check_at, left_at, metadata, pause_until, paused_at,
        paused_seconds, score, seed, seen_at, solved, start_request_id, start_trace_id, started_at, state,
        submitted_at, test_id, title, total, user_id
    ))
) NOT VALID;

CREATE FUNCTION answers_broken_rule_1(
    answered_at timestamptz,
    attempt integer,
    choice text,
    occurred_at timestamptz,
    question_id text,
    request_id text,
    trace_id text,
    version integer
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (attempt > 0) THEN 'answers_attempt_positive'
        WHEN NOT (char_length(choice) <= 10000 AND char_length(question_id) <= 128) THEN 'answers_choice_bounded'
        WHEN NOT (
            char_length(request_id) <= 128 AND char_length(trace_id) = 32 AND version > 1
        ) THEN 'answers_ids_bounded'
        WHEN NOT (
            answered_at >= '2000-01-01 00:00:00+00' AND answered_at < '2100-01-01 00:00:00+00'
            AND occurred_at >= '2000-01-01 00:00:00+00' AND occurred_at < '2100-01-01 00:00:00+00'
        ) THEN 'answers_times_in_range'
    END;
END
$$;
ALTER TABLE answers ADD CONSTRAINT answers_rules_1 CHECK (
    refuse_row(answers_broken_rule_1(
        answered_at, attempt, choice, occurred_at, question_id, request_id, trace_id, version
    ))
) NOT VALID;

CREATE FUNCTION session_events_broken_rule_1(
    actor_id text,
    happened_at timestamptz,
    kind text,
    note text,
    number integer,
    reason text,
    request_id text,
    trace_id text,
    version integer
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (
            kind IN ('paused', 'resumed', 'completed', 'abandoned', 'expired', 'refused')
        ) THEN 'session_events_kind_known'
        WHEN NOT (version > 0 AND number BETWEEN 1 AND 1000) THEN 'session_events_numbers_bounded'
        WHEN NOT (
            char_length(actor_id) <= 128 AND char_length(request_id) <= 128 AND char_length(trace_id) = 32
            AND char_length(reason) <= 100 AND char_length(note) <= 500
        ) THEN 'session_events_texts_bounded'
        WHEN NOT (
            happened_at >= '2000-01-01 00:00:00+00' AND happened_at < '2100-01-01 00:00:00+00'
        ) THEN 'session_events_time_in_range'
    END;
END
$$;
ALTER TABLE session_events ADD CONSTRAINT session_events_rules_1 CHECK (
    refuse_row(session_events_broken_rule_1(
        actor_id, happened_at, kind, note, number, reason, request_id, trace_id, version
    ))
) NOT VALID;
