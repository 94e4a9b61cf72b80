"""Names and limits that the client and the server of a gRPC channel share."""

from __future__ import annotations

CARRIER_SERVICE = "homeroom.chassis.v1.CarrierService"
CARRY_STREAM = f"/{CARRIER_SERVICE}/CarryStream"
CARRIED_CALLS_MAX = 256

# Messages to a server. The gateway accepts bodies of up to 1 MiB, and our own calls are smaller. Four times
# that is enough for one request, and for all requests of one message. Each call also has its context: key,
# user, trace.
REQUEST_BYTES_MAX = 4 * 1024 * 1024
CONTEXT_CHARACTERS_MAX = 4000  # at most 16,000 bytes of UTF-8
MESSAGE_BYTES_MAX = REQUEST_BYTES_MAX + CARRIED_CALLS_MAX * 16 * 1024

# Messages from a server. No public answer is above 4 MiB and a page ends at 1 MiB. So one message has room
# for a full batch of sessions (128 of 300 KiB) or for sixty full pages. An answer without room is replaced by
# a refusal; the other answers stay. The largest message also has room for these refusals.
ANSWERS_BYTES_MAX = 64 * 1024 * 1024
ANSWER_MESSAGE_BYTES_MAX = ANSWERS_BYTES_MAX + CARRIED_CALLS_MAX * 32 * 1024

# A refusal of STATUS_BYTES_MAX in base64, and its text.
METADATA_BYTES_MAX = 64 * 1024
METADATA_TOKEN = "x-homeroom-service-token"  # noqa: S105 - the name of a header, not a secret
METADATA_USER = "x-homeroom-user"
METADATA_ROLES = "x-homeroom-roles"
METADATA_KEY = "idempotency-key"
METADATA_REQUEST_ID = "x-request-id"
METADATA_TRACE = "traceparent"
