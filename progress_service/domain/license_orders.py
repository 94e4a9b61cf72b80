"""Orders to subscription_service: a license follows the progress that it mirrors."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass

from progress_service.domain.earnings import LevelChange
from progress_service.domain.statistics import UserId

LICENSE_ORDERS = uuid.UUID("2f0e8a53-9d0b-4c63-8a5c-3f6f5b1f7c10")
LICENSE_TOPIC = "subscription.LicenseOrder"


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseOrder:
    """An absolute level in an epoch. Without `reset`, it only raises a license of its epoch.

    `ordered_by` is who ordered a reset; it is empty otherwise.
    """

    user_id: UserId
    specialization: str
    epoch: int
    level: int
    max_level: int
    reason: str
    reset: bool = False
    ordered_by: str = ""

    @property
    def event_id(self) -> uuid.UUID:
        """The same for the same order, so that none is carried out twice."""
        kind = "reset" if self.reset else "level"
        numbers = f"{self.epoch}\n{self.level}\n{self.max_level}"
        return uuid.uuid5(LICENSE_ORDERS, f"{kind}\n{self.user_id}\n{self.specialization}\n{numbers}")

    def payload(self) -> bytes:
        """The order as an event of LICENSE_TOPIC carries it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def parse(cls, payload: bytes) -> LicenseOrder:
        """The order of an event; fields that only a newer program knows are left out."""
        fields = json.loads(payload)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


def order_of(change: LevelChange) -> LicenseOrder:
    """The order that tells a level which a learner has reached."""
    return LicenseOrder(
        user_id=change.user_id,
        specialization=change.specialization,
        epoch=change.epoch,
        level=change.level,
        max_level=change.max_level,
        reason="level reached" if change.reached else "catalog changed",
    )
