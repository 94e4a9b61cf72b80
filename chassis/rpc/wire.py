"""Names and limits that both ends of a gRPC line must agree on."""

from __future__ import annotations

CARRIER_SERVICE = "homeroom.chassis.v1.CarrierService"
CARRY_STREAM = f"/{CARRIER_SERVICE}/CarryStream"
CARRIED_CALLS_MAX = 256

# The largest message to a server; one call's request must leave room for its context.
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
REQUEST_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024
# Answers to many calls travel together, and a large one must not cost the others theirs: what they may hold
# in all, and the largest message, which also has room for the errors among them.
ANSWERS_BYTES_MAX = 240 * 1024 * 1024
ANSWER_MESSAGE_BYTES_MAX = 256 * 1024 * 1024

METADATA_TOKEN = "x-homeroom-service-token"  # noqa: S105 - the name of a header, not a secret
METADATA_USER = "x-homeroom-user"
METADATA_ROLES = "x-homeroom-roles"
METADATA_KEY = "idempotency-key"
METADATA_REQUEST_ID = "x-request-id"
METADATA_TRACE = "traceparent"
