-- The texts that clients send have the bounds of the contract. They hold for new rows from here on; 010 says that
-- all rows are within them.
ALTER TABLE accounts
    ADD CONSTRAINT accounts_texts_bounded CHECK (
        char_length(user_id) BETWEEN 1 AND 128 AND char_length(email) <= 254 AND char_length(display_name) <= 200
    ) NOT VALID;

ALTER TABLE plans
    ADD CONSTRAINT plans_texts_bounded CHECK (
        char_length(plan_id) BETWEEN 1 AND 63 AND char_length(name) BETWEEN 1 AND 200
        AND cardinality(features) <= 100 AND char_length(array_to_string(features, '')) <= 10000
    ) NOT VALID;

ALTER TABLE subscription_changes
    ADD CONSTRAINT subscription_changes_by_bounded CHECK (char_length(changed_by) <= 128) NOT VALID;

ALTER TABLE holds
    ADD CONSTRAINT holds_texts_bounded CHECK (
        char_length(user_id) BETWEEN 1 AND 128 AND char_length(subject) <= 300
        AND char_length(method) <= 200 AND char_length(idempotency_key) <= 255
    ) NOT VALID,
    ADD CONSTRAINT holds_amounts_bounded CHECK (tests <= 1 AND credits <= 1000000) NOT VALID;

ALTER TABLE credit_entries
    ADD CONSTRAINT credit_entries_reason_bounded CHECK (char_length(reason) <= 500) NOT VALID;

ALTER TABLE licenses
    ADD CONSTRAINT licenses_specialization_bounded CHECK (char_length(specialization) BETWEEN 1 AND 63) NOT VALID;

ALTER TABLE license_events
    ADD CONSTRAINT license_events_texts_bounded CHECK (
        char_length(user_id) BETWEEN 1 AND 128 AND char_length(specialization) BETWEEN 1 AND 63
    ) NOT VALID;

ALTER TABLE license_changes
    ADD CONSTRAINT license_changes_texts_bounded CHECK (
        char_length(changed_by) <= 128 AND char_length(reason) <= 500
    ) NOT VALID;
