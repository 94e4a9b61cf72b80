-- One CHECK that calls a function takes the place of a table's CHECKs; the migration of the chassis that makes
-- `refuse_row` says why. The rules are those of the CHECKs, in the order in which PostgreSQL looks at them. A
-- later file drops the CHECKs.
CREATE FUNCTION holds_broken_rule_1(
    credits integer,
    idempotency_key text,
    method text,
    resolved_at timestamptz,
    state text,
    subject text,
    tests integer,
    user_id text
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (tests <= 1 AND credits <= 1000000) THEN 'holds_amounts_bounded'
        WHEN NOT (credits >= 0) THEN 'holds_credits_not_negative'
        WHEN NOT ((state = 'open') = (resolved_at IS NULL)) THEN 'holds_resolved_or_open'
        WHEN NOT (state IN ('open', 'committed', 'released')) THEN 'holds_state_known'
        WHEN NOT (tests >= 0) THEN 'holds_tests_not_negative'
        WHEN NOT (
            char_length(user_id) BETWEEN 1 AND 128 AND char_length(subject) <= 300
            AND char_length(method) <= 200 AND char_length(idempotency_key) <= 255
        ) THEN 'holds_texts_bounded'
    END;
END
$$;
ALTER TABLE holds ADD CONSTRAINT holds_rules_1 CHECK (
    refuse_row(holds_broken_rule_1(
        credits, idempotency_key, method, resolved_at, state, subject, tests, user_id
    ))
) NOT VALID;
