"""What the gateway answered to one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The body of a start carries every question, so only these fields of a body are kept.
_FIELDS_OF_INTEREST = frozenset(
    {"sessionId", "resumed", "state", "total", "answered", "questionId", "correct", "attempts", "score"}
    | {"reason", "detail"}
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gateway answered to one step; `digest` identifies the whole body."""

    status: int
    replayed: bool
    digest: str
    fields: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def problem(self) -> str:
        return f"{self.status} {self.fields.get('reason', '')} {self.fields.get('detail', '')}".strip()


def seen_of_body(*, status: int, replayed: bool, digest: str, body: Mapping[str, Any]) -> Seen:
    """Keep of a body what is of interest."""
    fields = {name: value for name, value in body.items() if name in _FIELDS_OF_INTEREST}
    return Seen(status, replayed, digest, fields)
