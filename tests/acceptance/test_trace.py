"""One request is one trace, through every process and down to its queries."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict

from tests.support.http_client import unique
from tests.support.waiting import eventually


def read_spans(path, trace_id: str) -> list[dict]:
    if not path.exists():
        return []
    spans = [json.loads(line) for line in path.read_text().splitlines() if trace_id in line]
    return [span for span in spans if span["trace_id"] == trace_id]


def tree(spans: list[dict]) -> dict:
    children = defaultdict(list)
    for span in spans:
        children[span["parent_span_id"]].append(span)

    def below(span):
        return {
            "service": span["service"],
            "name": span["name"],
            "kind": span["kind"],
            "children": [
                below(child) for child in sorted(children[span["span_id"]], key=lambda s: s["start_ns"])
            ],
        }

    (root,) = roots(spans)
    return below(root)


def roots(spans: list[dict]) -> list[dict]:
    """The spans whose parents are not here: one when every span has been written."""
    ids = {span["span_id"] for span in spans}
    return [span for span in spans if span["parent_span_id"] not in ids]


def find(node: dict, service: str, kind: str | None = None) -> list[dict]:
    found = [node] if node["service"] == service and kind in {None, node["kind"]} else []
    return found + [match for child in node["children"] for match in find(child, service, kind)]


async def test_a_start_is_one_trace_through_three_processes_with_their_queries(stack, http):
    user, test = unique("learner"), unique("test")
    await http.put_account(user)
    await http.put_test(test)
    trace_id = secrets.token_hex(16)
    answer = await http.start(
        user, test, key="k", headers={"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    )
    assert answer.status == 201

    async def complete():
        spans = read_spans(stack.spans, trace_id)
        services = {span["service"] for span in spans}
        whole = {"gateway", "session_service", "subscription_service"} <= services and len(roots(spans)) == 1
        return spans if whole and sum(span["service"] == "gateway" for span in spans) >= 2 else None

    root = tree(await eventually(complete))
    assert (root["service"], root["kind"]) == ("gateway", "SERVER")
    (to_session,) = [child for child in root["children"] if child["kind"] == "CLIENT"]
    assert to_session["service"] == "gateway"
    assert "CreateSession" in to_session["name"]
    (session,) = to_session["children"]
    assert (session["service"], session["kind"]) == ("session_service", "SERVER")
    (to_subscription,) = [child for child in session["children"] if "PlaceHold" in child["name"]]
    assert to_subscription["kind"] == "CLIENT"
    (subscription,) = to_subscription["children"]
    assert (subscription["service"], subscription["kind"]) == ("subscription_service", "SERVER")
    session_queries = [child["name"] for child in session["children"] if child is not to_subscription]
    subscription_queries = [child["name"] for child in subscription["children"]]
    # A look at what is there before the hold, one write after it.
    assert len(session_queries) >= 2, root
    assert session["children"].index(to_subscription) not in {0, len(session["children"]) - 1}, root
    assert len(subscription_queries) >= 1, root

    retried = await http.start(user, test, key="k", headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    assert retried.replayed

    async def linked():
        spans = read_spans(stack.spans, "ab" * 16)
        return [s for s in spans if any(link["trace_id"] == trace_id for link in s["links"])]

    assert await eventually(linked), "a replay links to the original"
