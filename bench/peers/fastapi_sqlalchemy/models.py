"""The tables, as SQLAlchemy sees them; the schema itself is bench/peers/schema.sql."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import DateTime, ForeignKey
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Plan(Base):
    __tablename__ = "plans"
    plan_id: Mapped[str] = mapped_column(primary_key=True)
    daily_test_limit: Mapped[int | None]


class Account(Base):
    __tablename__ = "accounts"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey(Plan.plan_id))
    active: Mapped[bool]


class Test(Base):
    __tablename__ = "tests"
    test_id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    kind: Mapped[str]
    difficulty: Mapped[str]


class DailyUsage(Base):
    __tablename__ = "daily_usage"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[dt.date] = mapped_column(primary_key=True)
    used: Mapped[int]


class TestSession(Base):
    __tablename__ = "sessions"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    test_id: Mapped[str]
    title: Mapped[str]
    kind: Mapped[str]
    difficulty: Mapped[str]
    state: Mapped[str]
    started_at: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True))
    # The bound parameter goes as text; SQLAlchemy's serializer is set to orjson where the engine is made.
    # (Named otherwise because `metadata` belongs to the declarative base.)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    version: Mapped[int]


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"
    user_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int]
    response: Mapped[str]
