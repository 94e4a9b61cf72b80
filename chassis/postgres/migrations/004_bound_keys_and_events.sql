-- Each value has a limit, whatever the programs in front of the table do. The limits are checked for new rows from
-- now on; the next migration checks the rows that are there, without keeping anyone from writing meanwhile.
ALTER TABLE idempotency_keys
    ADD CONSTRAINT idempotency_keys_lengths_bounded CHECK (
        char_length(user_id) <= 255 AND char_length(method) <= 255 AND char_length(key) BETWEEN 1 AND 255
        AND octet_length(fingerprint) <= 64 AND char_length(traceparent) <= 64
        AND char_length(content) <= 1024
    ) NOT VALID,
    ADD CONSTRAINT idempotency_keys_response_bounded CHECK (octet_length(response) <= 4194304) NOT VALID;

ALTER TABLE outbox
    ADD CONSTRAINT outbox_lengths_bounded CHECK (
        char_length(user_id) <= 255 AND char_length(topic) BETWEEN 1 AND 100
        AND char_length(traceparent) <= 64 AND char_length(last_error) <= 500
    ) NOT VALID,
    ADD CONSTRAINT outbox_payload_bounded CHECK (octet_length(payload) <= 1048576) NOT VALID;
