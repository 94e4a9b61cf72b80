-- One CHECK that calls a function takes the place of a table's CHECKs; the migration of the chassis that makes
-- `refuse_row` says why. The rules are those of the CHECKs, in the order in which PostgreSQL looks at them. A
-- later file drops the CHECKs.
CREATE FUNCTION learner_statistics_broken_rule_1(
    answers bigint,
    completed_lessons bigint,
    completed_sessions bigint,
    correct bigint,
    enrolled bigint,
    epoch integer,
    questions_answered bigint,
    updated_at timestamptz,
    version bigint,
    xp bigint
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (completed_sessions >= 0) THEN 'learner_statistics_completed_sessions_not_negative'
        WHEN NOT (correct BETWEEN 0 AND answers) THEN 'learner_statistics_correct_within_answers'
        WHEN NOT (
            epoch >= 0 AND enrolled >= 0 AND completed_lessons >= 0
        ) THEN 'learner_statistics_learning_not_negative'
        WHEN NOT (questions_answered >= 0) THEN 'learner_statistics_questions_answered_not_negative'
        WHEN NOT (
            version >= 0 AND (version > 0) = (updated_at IS NOT NULL)
        ) THEN 'learner_statistics_versioned_once_changed'
        WHEN NOT (xp >= 0) THEN 'learner_statistics_xp_not_negative'
    END;
END
$$;
ALTER TABLE learner_statistics ADD CONSTRAINT learner_statistics_rules_1 CHECK (
    refuse_row(learner_statistics_broken_rule_1(
        answers, completed_lessons, completed_sessions, correct, enrolled, epoch, questions_answered, updated_at,
        version, xp
    ))
) NOT VALID;

CREATE FUNCTION session_results_broken_rule_1(
    answered integer,
    answers integer,
    closed_at timestamptz,
    completed boolean,
    correct integer,
    score double precision,
    session_id text,
    specialization text,
    test_id text,
    total integer,
    user_id text,
    xp integer
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (answered BETWEEN 0 AND answers) THEN 'session_results_answered_within_answers'
        WHEN NOT (
            isfinite(closed_at) AND closed_at >= '2000-01-01 00:00:00+00' AND closed_at < '2100-01-01 00:00:00+00'
        ) THEN 'session_results_closed_at_within_bounds'
        WHEN NOT (correct BETWEEN 0 AND answers) THEN 'session_results_correct_within_answers'
        WHEN NOT (
            answered <= 100000000 AND total <= 100000000 AND answers <= 100000000 AND correct <= 100000000
        ) THEN 'session_results_counts_within_bounds'
        WHEN NOT (
            length(user_id) BETWEEN 1 AND 128 AND length(session_id) BETWEEN 1 AND 128
            AND length(test_id) BETWEEN 1 AND 128 AND length(specialization) <= 63
        ) THEN 'session_results_ids_within_bounds'
        WHEN NOT (score BETWEEN 0 AND 1) THEN 'session_results_score_is_a_share'
        WHEN NOT (total >= 0) THEN 'session_results_total_not_negative'
        WHEN NOT (xp >= 0 AND (completed OR xp = 0)) THEN 'session_results_xp_only_when_completed'
        WHEN NOT (xp <= 1000000) THEN 'session_results_xp_within_bounds'
    END;
END
$$;
ALTER TABLE session_results ADD CONSTRAINT session_results_rules_1 CHECK (
    refuse_row(session_results_broken_rule_1(
        answered, answers, closed_at, completed, correct, score, session_id, specialization, test_id, total,
        user_id, xp
    ))
) NOT VALID;

CREATE FUNCTION specialization_progress_broken_rule_1(
    catalog_version integer,
    epoch integer,
    granted_level integer,
    level integer,
    max_level integer,
    specialization text,
    user_id text,
    version bigint,
    xp bigint
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (epoch >= 0) THEN 'specialization_progress_epoch_not_negative'
        WHEN NOT (granted_level BETWEEN 0 AND level) THEN 'specialization_progress_granted_level_holds'
        WHEN NOT (
            length(user_id) BETWEEN 1 AND 128 AND length(specialization) BETWEEN 1 AND 63
        ) THEN 'specialization_progress_ids_within_bounds'
        WHEN NOT (level BETWEEN 0 AND max_level) THEN 'specialization_progress_level_within_catalog'
        WHEN NOT (catalog_version >= 0 AND version > 0) THEN 'specialization_progress_versions_not_negative'
        WHEN NOT (xp >= 0) THEN 'specialization_progress_xp_not_negative'
    END;
END
$$;
ALTER TABLE specialization_progress ADD CONSTRAINT specialization_progress_rules_1 CHECK (
    refuse_row(specialization_progress_broken_rule_1(
        catalog_version, epoch, granted_level, level, max_level, specialization, user_id, version, xp
    ))
) NOT VALID;

CREATE FUNCTION enrollments_broken_rule_1(
    completed_at timestamptz,
    completed_lessons integer,
    epoch integer,
    since_revision integer,
    user_id text
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (
            length(user_id) BETWEEN 1 AND 128 AND epoch >= 0 AND since_revision >= 1
            AND completed_lessons BETWEEN 0 AND 10000
        ) THEN 'enrollments_bounded'
        WHEN NOT (completed_at IS NULL OR completed_lessons > 0) THEN 'enrollments_completed_with_lessons'
    END;
END
$$;
ALTER TABLE enrollments ADD CONSTRAINT enrollments_rules_1 CHECK (
    refuse_row(enrollments_broken_rule_1(
        completed_at, completed_lessons, epoch, since_revision, user_id
    ))
) NOT VALID;

CREATE FUNCTION lesson_completions_broken_rule_1(
    epoch integer,
    occurred_at timestamptz,
    revision integer,
    user_id text,
    xp integer
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (
            length(user_id) BETWEEN 1 AND 128 AND epoch >= 0 AND revision >= 1 AND xp BETWEEN 0 AND 1000000
            AND isfinite(occurred_at) AND occurred_at >= '2000-01-01 00:00:00+00'
            AND occurred_at < '2100-01-01 00:00:00+00'
        ) THEN 'lesson_completions_bounded'
    END;
END
$$;
ALTER TABLE lesson_completions ADD CONSTRAINT lesson_completions_rules_1 CHECK (
    refuse_row(lesson_completions_broken_rule_1(
        epoch, occurred_at, revision, user_id, xp
    ))
) NOT VALID;
