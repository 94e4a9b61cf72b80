"""What goes over HTTP, as pydantic models."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

MetadataName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
MetadataValue = Annotated[str, StringConstraints(max_length=1000)]


class StartRequest(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    test_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    title: Annotated[str, StringConstraints(min_length=1, max_length=300)] | None = None
    difficulty: Annotated[str, StringConstraints(max_length=50)] | None = None
    duration_minutes: int | None = None
    metadata: dict[MetadataName, MetadataValue] = {}


class SessionView(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    session_id: uuid.UUID
    user_id: str
    test_id: str
    title: str
    kind: str
    difficulty: str
    state: str
    resumed: bool
    started_at: dt.datetime
    attempt: int = 1
    questions: list[str] = []
    answered: int = 0
    total: int = 0
    engaged_seconds: float = 0
    metadata: dict[str, str]
    version: int
