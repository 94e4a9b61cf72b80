"""The route table: it finds the RPC for a path and an HTTP method. It is made once, from the contract."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from chassis.errors import Reason, ServiceError
from chassis.frozen import quick
from chassis.rpc.methods import Method
from gateway.body_tokens import BodyToken
from gateway.contract import OWN, ContractError, owners_of
from gateway.http_rules import HttpRule, Template, rules_of
from gateway.streaming.events import EventWriter
from gateway.transcoding.csv_table import CsvTable
from gateway.transcoding.requests import RequestReader
from gateway.transcoding.responses import ResponseWriter


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP method on one path, and its RPC. `name` is for example "POST /v1/sessions"."""

    name: str
    http_method: str
    template: Template
    method: Method
    upstream: str
    request: RequestReader
    response: ResponseWriter
    table: CsvTable | None
    body_token: BodyToken | None
    events: EventWriter | None
    """For a method that streams: its answer is text/event-stream."""


@quick
@dataclass(frozen=True, slots=True)
class Place:
    """The result for a path: a route for each HTTP method, and the values of the path's variables."""

    routes: Mapping[str, Route]
    values: tuple[str, ...] = ()

    def allowed(self) -> str:
        """The HTTP methods of this path, as the `Allow` header lists them."""
        methods = {*self.routes, "OPTIONS", *(("HEAD",) if "GET" in self.routes else ())}
        return ", ".join(sorted(methods))


def routes_of(methods: Iterable[Method], upstreams: Collection[str]) -> list[Route]:
    """Every route of these methods; each must belong to one of the upstreams, or to the gateway itself.

    Raises:
        ContractError: a method has no route, no upstream, or a route that cannot be served.
    """
    routes: list[Route] = []
    for method in methods:
        for owner in owners_of(method, upstreams):
            if owner != OWN and owner not in upstreams:
                raise ContractError(f"{method.path}: there is no upstream {owner}")
            routes += [_route(method, rule.owned_by(owner), owner) for rule in rules_of(method)]
    return routes


def _route(method: Method, rule: HttpRule, owner: str) -> Route:
    return Route(
        name=f"{rule.http_method} {rule.template.text}",
        http_method=rule.http_method,
        template=rule.template,
        method=method,
        upstream=owner,
        request=RequestReader(
            descriptor=method.descriptor.input_type,
            variables=rule.template.variables,
            body=rule.body,
            if_match=method.if_match,
            resumes_from=method.resumes_from,
        ),
        response=ResponseWriter(method=method, response_body=rule.response_body),
        table=CsvTable(method=method, response_body=rule.response_body) if method.csv_of else None,
        body_token=BodyToken(method=method, body=rule.body) if method.token_in_body else None,
        events=_events(method, rule),
    )


def _events(method: Method, rule: HttpRule) -> EventWriter | None:
    if method.server_streaming:
        return EventWriter(method=method, response_body=rule.response_body)
    if method.event_id or method.event_of or method.resumes_from:
        raise ContractError(f"{method.path} does not stream, so it has no events")
    return None


class RouteTable:
    """Finds routes. If a segment matches a literal and a variable, the literal wins.

    So `/v1/accounts/me` never means the account with the id "me", for any HTTP method.

    Raises:
        ContractError: two routes are the same.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._literal: dict[str, Place] = {}
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def find(self, path: str) -> Place | None:
        """The routes of a path, which is given as in the request line, without the query; None if unknown.

        Raises:
            ServiceError: INVALID_ARGUMENT, for a path that is not percent-encoded UTF-8.
        """
        place = self._literal.get(path)
        if place is not None:
            return place
        # An id may contain a colon. So the text after a colon is a verb only if a route has this verb.
        before, colon, verb = path.rpartition(":")
        if colon and verb and "/" not in verb:
            place = self._search(before, verb)
        return place or self._search(path, "")

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.template.segments:
            if segment is None:
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, _Node())
        ends = node.ends.setdefault(route.template.verb, {})
        clash = ends.setdefault(route.http_method, route)
        if clash is not route:
            raise ContractError(f"{route.name} means both {clash.method.path} and {route.method.path}")
        if not route.template.variables:
            self._literal.setdefault(route.template.text, Place(ends))

    def _search(self, path: str, verb: str) -> Place | None:
        if not path.startswith("/"):
            return None
        segments = path[1:].split("/")
        if "%" in path or not path.isascii():
            try:
                path.encode()  # aiohttp decodes bytes that are not UTF-8 to halves of surrogate pairs
                segments = [unquote(segment, errors="strict") for segment in segments]
            except UnicodeError:
                raise ServiceError(Reason.INVALID_ARGUMENT, "The path is not percent-encoded UTF-8") from None
        # Proxies and clients remove such segments: the path would not mean the same to all.
        if "." in segments or ".." in segments:
            raise ServiceError(Reason.INVALID_ARGUMENT, "The path must not have the segments . and ..")
        return self._root.search(segments, verb, [])


@dataclass(slots=True)
class _Node:
    """A node of the tree of paths: one segment."""

    literals: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    ends: dict[str, dict[str, Route]] = field(default_factory=dict)

    def search(self, segments: Sequence[str], verb: str, values: Sequence[str]) -> Place | None:
        """The place below this node; `values` are those of the variables above it."""
        node, found = self, [*values]
        for at, segment in enumerate(segments):
            literal, variable = node.literals.get(segment), node.variable
            if variable is None or not segment:
                if literal is None:
                    return None
                node = literal
            elif literal is None:
                node = variable
                found.append(segment)
            else:  # only here there are two ways
                rest = segments[at + 1 :]
                return literal.search(rest, verb, found) or variable.search(rest, verb, [*found, segment])
        routes = node.ends.get(verb)
        return None if routes is None else Place(routes, tuple(found))
