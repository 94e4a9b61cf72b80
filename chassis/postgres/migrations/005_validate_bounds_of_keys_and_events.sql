ALTER TABLE idempotency_keys
    VALIDATE CONSTRAINT idempotency_keys_lengths_bounded,
    VALIDATE CONSTRAINT idempotency_keys_response_bounded;

ALTER TABLE outbox
    VALIDATE CONSTRAINT outbox_lengths_bounded,
    VALIDATE CONSTRAINT outbox_payload_bounded;
