"""Diagnostics and repairs of a running deployment, through its HTTP API."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from homeroom.api import LATER, Answer, Api, ApiError, Event, RefusedError

SERVICES = ("session", "subscription", "progress")
TRIES_MAX = 6
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class PlanName:
    """A plan as the command line names it: `session/0190a7f0-…`."""

    service: str
    plan_id: str

    @classmethod
    def read(cls, text: str) -> PlanName | None:
        """The plan that this text names; None if it names none."""
        service, _, plan_id = text.partition("/")
        try:
            known = service in SERVICES and uuid.UUID(plan_id)
        except ValueError:
            return None
        return cls(service, plan_id) if known else None

    def __str__(self) -> str:
        return f"{self.service}/{self.plan_id}"

    @property
    def path(self) -> str:
        return f"/v1/repairs/{self.service}/{self.plan_id}"


def service_of(check_id: str) -> str | None:
    """The service whose check this is, by its first word; None if it is none of them."""
    word = check_id.partition(".")[0]
    return word if word in SERVICES else None


class DiagnosticsApi:
    """What an administrator can ask; every method raises ApiError if there is no answer, or a refusal."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def checks(self, service: str) -> dict[str, Any]:
        """The checks of a service, and its repairs that need none."""
        return await self._ask("GET", f"/v1/diagnostics/{service}/checks")

    async def run(
        self, service: str, *, checks: Sequence[str], user_id: str, min_severity: str
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """The events of a run, `finding` and `progress`. A stream that breaks is resumed where it broke.

        A finding may come twice after that.
        """
        query = [("check", each) for each in checks]
        query += [("userId", user_id)] if user_id else []
        query += [("minSeverity", min_severity.upper())] if min_severity else []
        path = f"/v1/diagnostics/{service}/findings" + (f"?{urlencode(query)}" if query else "")
        position, failures = "", 0
        while True:
            try:
                async for event in self._api.events(path, after=position):
                    if _is_last(event, path):
                        return
                    if event.name in {"problem", "closing"}:
                        break
                    failures, position = 0, event.id or position
                    yield event.name, event.data
            except RefusedError:
                raise
            except ApiError:
                failures += 1
                if failures == TRIES_MAX:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def plan(
        self, service: str, *, check: str, repair: str, user_id: str, reason: str
    ) -> dict[str, Any]:
        """Plan a repair; the answer has the plan and its first rows."""
        body = {"check": check, "repair": repair, "userId": user_id, "reason": reason}
        return await self._ask("POST", f"/v1/repairs/{service}:plan", {k: v for k, v in body.items() if v})

    async def show(self, plan: PlanName) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A plan, and all its rows."""
        rows: list[dict[str, Any]] = []
        token = ""
        while True:
            query = urlencode({"pageSize": 500, **({"pageToken": token} if token else {})})
            page = await self._ask("GET", f"{plan.path}?{query}")
            rows += page.get("rows", [])
            token = page.get("nextPageToken", "")
            if not token:
                return page["plan"], rows

    async def list_plans(self, service: str, *, limit: int) -> list[dict[str, Any]]:
        """The newest plans of a service."""
        page = await self._ask("GET", f"/v1/repairs/{service}?pageSize={limit:d}")
        return list(page.get("plans", []))

    async def work(self, plan: PlanName, verb: str, plan_hash: str) -> AsyncIterator[dict[str, Any]]:
        """Apply or undo a plan to its end: an answer after each part. `verb` is "apply" or "undo"."""
        end = {"apply": "APPLIED", "undo": "UNDONE"}[verb]
        while True:
            answer = await self._ask("POST", f"{plan.path}:{quote(verb)}", {"hash": plan_hash})
            yield answer
            if answer["plan"]["state"] == end:
                return

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request, sent again with the same key while its outcome is open."""
        key = uuid.uuid4().hex if body is not None else None
        for attempt in range(1, TRIES_MAX + 1):
            try:
                answer: Answer = await self._api.ask(method, path, body, key=key)
            except ApiError:
                if attempt == TRIES_MAX:
                    raise
            else:
                if 200 <= answer.status < 300:
                    return answer.body
                if answer.status not in LATER or attempt == TRIES_MAX:
                    raise RefusedError(f"{method} {path} was refused with {answer.problem}")
            await asyncio.sleep(PAUSE_SECONDS * attempt)
        raise AssertionError  # the last attempt returns or raises


def _is_last(event: Event, path: str) -> bool:
    """Whether the stream has told all. Raises RefusedError for a problem that coming back does not mend."""
    if event.name == "problem" and not event.data.get("retryable"):
        raise RefusedError(f"{path}: {event.data.get('detail') or event.data.get('title')}")
    return event.name == "end"
