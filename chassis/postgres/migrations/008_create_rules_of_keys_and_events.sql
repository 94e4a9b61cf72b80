-- PostgreSQL parses each CHECK of a table anew in each statement that writes to the table, but keeps the plan of a
-- function as long as the connection lives. So the CHECKs of the tables that are written most become one: it calls a
-- function that names the rule that a row breaks. docs/speed.md has the figures; CONTRIBUTING.md says how a rule is
-- changed.
--
-- `refuse_row` refuses a row as a CHECK with the name of the rule would. It is STRICT: it is not called for a row that
-- breaks no rule, and a CHECK accepts NULL.
CREATE FUNCTION refuse_row(broken_rule text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    RAISE check_violation USING
        MESSAGE = format('new row violates check constraint "%s"', broken_rule),
        CONSTRAINT = broken_rule;
END
$$;

-- The rules are those of the CHECKs, in the order in which PostgreSQL looks at them. A later file drops the CHECKs.
CREATE FUNCTION idempotency_keys_broken_rule_1(
    content text,
    fingerprint bytea,
    key text,
    method text,
    response bytea,
    state text,
    traceparent text,
    user_id text
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (
            (state = 'completed') = (fingerprint IS NOT NULL AND response IS NOT NULL)
        ) THEN 'idempotency_keys_completed_has_response'
        WHEN NOT (state IN ('completed', 'aborted')) THEN 'idempotency_keys_completed_or_aborted'
        WHEN NOT (
            char_length(user_id) <= 255 AND char_length(method) <= 255 AND char_length(key) BETWEEN 1 AND 255
            AND octet_length(fingerprint) <= 64 AND char_length(traceparent) <= 64 AND char_length(content) <= 1024
        ) THEN 'idempotency_keys_lengths_bounded'
        WHEN NOT (octet_length(response) <= 4194304) THEN 'idempotency_keys_response_bounded'
    END;
END
$$;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_rules_1 CHECK (
    refuse_row(idempotency_keys_broken_rule_1(
        content, fingerprint, key, method, response, state, traceparent, user_id
    ))
) NOT VALID;

CREATE FUNCTION outbox_broken_rule_1(
    attempts integer,
    last_error text,
    leased_until timestamptz,
    parked_at timestamptz,
    payload bytea,
    topic text,
    traceparent text,
    user_id text
) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    RETURN CASE
        WHEN NOT (attempts >= 0) THEN 'outbox_attempts_not_negative'
        WHEN NOT (
            char_length(user_id) <= 255 AND char_length(topic) BETWEEN 1 AND 100
            AND char_length(traceparent) <= 64 AND char_length(last_error) <= 500
        ) THEN 'outbox_lengths_bounded'
        WHEN NOT (parked_at IS NULL OR leased_until IS NULL) THEN 'outbox_parked_is_not_leased'
        WHEN NOT (octet_length(payload) <= 1048576) THEN 'outbox_payload_bounded'
    END;
END
$$;
ALTER TABLE outbox ADD CONSTRAINT outbox_rules_1 CHECK (
    refuse_row(outbox_broken_rule_1(
        attempts, last_error, leased_until, parked_at, payload, topic, traceparent, user_id
    ))
) NOT VALID;
