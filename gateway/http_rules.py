"""The HTTP routes of a method, from its `google.api.http` option with its additional bindings.

The grammar is that of google/api/http.proto, without `**` and without variables of several segments: no route
of ours needs them. A path is a sequence of literals and variables, with an optional `:verb` at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self, cast

from google.api import annotations_pb2

from chassis.rpc.methods import Method
from gateway.contract import ContractError

_LITERAL = re.compile(r"[A-Za-z0-9._~-]+")
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)(?:=\*)?\}")
_BODILESS = frozenset({"GET", "DELETE"})


@dataclass(frozen=True, slots=True)
class Template:
    """A path: its segments (None for a variable), the fields of its variables, and its verb or ""."""

    text: str
    segments: tuple[str | None, ...]
    variables: tuple[str, ...]
    verb: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a template such as `/v1/sessions/{session_id}:complete`; raises ContractError."""
        path, _, verb = text.partition(":")
        if not path.startswith("/") or (":" in text and not _LITERAL.fullmatch(verb)):
            raise ContractError(f"{text!r} is not a path template that can be served")
        segments: list[str | None] = []
        variables: list[str] = []
        for segment in path[1:].split("/"):
            variable = _VARIABLE.fullmatch(segment)
            if variable is not None:
                segments.append(None)
                variables.append(variable[1])
            elif _LITERAL.fullmatch(segment):
                segments.append(segment)
            else:
                raise ContractError(f"{text!r} is not a path template that can be served")
        if len(set(variables)) != len(variables):
            raise ContractError(f"{text!r} names a variable twice")
        return cls(text, tuple(segments), tuple(variables), verb)


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One way to call a method over HTTP."""

    http_method: str
    template: Template
    body: str
    response_body: str
    owner_variable: str = ""

    def owned_by(self, owner: str) -> HttpRule:
        """The rule for one owner: its short name takes the place of the variable that names the owner."""
        if not self.owner_variable:
            return self
        text = self.template.text.replace(f"{{{self.owner_variable}}}", owner)
        return replace(self, template=Template.parse(text), owner_variable="")


def rules_of(method: Method) -> Iterator[HttpRule]:
    """The HTTP routes of a public method.

    Raises:
        ContractError: the method has no route, or a route that cannot be served.
    """
    options: Any = method.descriptor.GetOptions()
    extension = cast("Any", annotations_pb2).http
    if not options.HasExtension(extension):
        raise ContractError(f"{method.path} is public but has no google.api.http option")
    if method.descriptor.client_streaming:
        raise ContractError(f"{method.path} takes a stream, so it cannot be served over HTTP")
    main = options.Extensions[extension]
    for rule in (main, *main.additional_bindings):
        yield _http_rule(method, rule)


def _http_rule(method: Method, rule: Any) -> HttpRule:
    pattern = rule.WhichOneof("pattern")
    if pattern is None or pattern == "custom":
        raise ContractError(f"{method.path} has an HTTP route of an unknown kind")
    http_method = pattern.upper()
    if rule.body and http_method in _BODILESS:
        raise ContractError(f"{method.path}: {http_method} takes no body")
    if http_method == "GET" and not method.safe:
        raise ContractError(f"{method.path} is called by GET but not marked NO_SIDE_EFFECTS")
    template = Template.parse(getattr(rule, pattern))
    if method.owner_in_path and method.owner_in_path not in template.variables:
        raise ContractError(f"{method.path}: {template.text} does not name the owner")
    return HttpRule(http_method, template, rule.body, rule.response_body, method.owner_in_path)
