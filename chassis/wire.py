"""Names and limits that both ends of a gRPC line must agree on."""

from __future__ import annotations

CARRIER_SERVICE = "homeroom.chassis.v1.CarrierService"
MESSAGE_BYTES_MAXIMUM = 16 * 1024 * 1024

METADATA_TOKEN = "x-homeroom-service-token"  # noqa: S105 - the name of a header, not a secret
METADATA_USER = "x-homeroom-user"
METADATA_ROLES = "x-homeroom-roles"
METADATA_KEY = "idempotency-key"
METADATA_REQUEST_ID = "x-request-id"
METADATA_TRACE = "traceparent"
