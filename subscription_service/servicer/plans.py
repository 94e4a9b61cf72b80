"""PlanService: messages to plans and back."""

from __future__ import annotations

from chassis.batch import Item
from chassis.rpc.paging import PageTokens
from chassis.rpc.servicing import Handler, PagedOperation, paged, plain
from protos.subscription.v1 import accounts_pb2 as pb
from subscription_service.domain.plans import Plan
from subscription_service.operations.plans import PlanOperations

SERVICE = "/homeroom.subscription.v1.PlanService"


def handlers(
    *, operations: PlanOperations, list_plans: PagedOperation[None, Plan], tokens: PageTokens
) -> list[Handler]:
    """The methods of PlanService."""
    return [
        plain(
            f"{SERVICE}/PutPlan",
            _plan_of,
            operations.put_plans,
            lambda plan: pb.PutPlanResponse(plan=_plan(plan)),
        ),
        paged(
            f"{SERVICE}/ListPlans",
            _all,
            list_plans,
            _plan,
            position=lambda plan: (plan.plan_id,),
            tokens=tokens,
        ),
    ]


def _all(_item: Item[pb.ListPlansRequest]) -> None:
    """There is nothing to choose: everybody sees the same list."""


def _plan_of(item: Item[pb.PutPlanRequest]) -> Plan:
    request = item.request
    return Plan(
        plan_id=request.plan_id,
        name=request.name,
        daily_test_limit=request.daily_test_limit if request.HasField("daily_test_limit") else None,
        monthly_credits=request.monthly_credits,
        features=tuple(request.features),
    )


def _plan(plan: Plan) -> pb.Plan:
    return pb.Plan(
        plan_id=plan.plan_id,
        name=plan.name,
        daily_test_limit=plan.daily_test_limit,
        monthly_credits=plan.monthly_credits,
        features=plan.features,
    )
