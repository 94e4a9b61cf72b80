"""EntitlementChangeService: what learners are entitled to, in short."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.batch import Item
from chassis.errors import ServiceError
from chassis.rpc.servicing import Handler, plain
from protos.subscription.v1 import changes_pb2 as pb
from subscription_service.domain.entitlements import EntitlementChange
from subscription_service.operations.entitlements import EntitlementOperations
from subscription_service.servicer.accounts import SUBSCRIPTION_STATUSES

READ_ENTITLEMENT_CHANGES = "/homeroom.subscription.v1.EntitlementChangeService/ReadEntitlementChanges"


def handlers(*, entitlements: EntitlementOperations) -> list[Handler]:
    """The methods of EntitlementChangeService."""
    return [plain(READ_ENTITLEMENT_CHANGES, _user_ids, entitlements.read_changes, _answer)]


def _user_ids(item: Item[pb.ReadEntitlementChangesRequest]) -> list[str]:
    return list(item.request.user_ids)


def _answer(learners: Sequence[EntitlementChange | ServiceError]) -> pb.ReadEntitlementChangesResponse:
    return pb.ReadEntitlementChangesResponse(learners=map(_change, learners))


def _change(change: EntitlementChange | ServiceError) -> pb.EntitlementChange:
    if isinstance(change, ServiceError):
        return pb.EntitlementChange(failed=True)
    if change.status is None:
        return pb.EntitlementChange()
    return pb.EntitlementChange(
        fingerprint=change.fingerprint,
        plan_id=change.plan_id,
        status=SUBSCRIPTION_STATUSES[change.status],
    )
