from __future__ import annotations

from datetime import timedelta

import pytest

from subscription_service.operations import housekeeping
from subscription_service.store.housekeeping import HousekeepingStore
from tests.subscription.service import Subscriptions


async def test_old_keys_are_forgotten_in_small_steps_and_young_ones_are_kept(
    subscriptions: Subscriptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "ROWS_AT_ONCE", 2)
    ann = await subscriptions.account("ann")
    for number in range(8):
        await subscriptions.adjust(ann, 1, key=f"key-{number}")
    await subscriptions.truth.execute(
        "UPDATE idempotency_keys SET created_at = now() - interval '31 days' WHERE key < 'key-5'"
    )
    store = HousekeepingStore(database=subscriptions.database)
    assert await housekeeping.purge_old_keys(store, key_age=timedelta(days=30)) == 5
    rows = await subscriptions.truth.fetch("SELECT key FROM idempotency_keys ORDER BY key")
    assert [row["key"] for row in rows] == ["key-5", "key-6", "key-7"]
    # A young key still repeats its answer.
    assert (await subscriptions.adjust(ann, 1, key="key-7")).balance == 8
