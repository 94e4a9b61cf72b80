"""Faults of Redis, files, keys and configuration."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
import redis.asyncio
from joserfc.jwk import RSAKey

from chassis.diagnostics.findings import Severity
from homeroom.ports import free_ports
from tests.environment.planting import planting
from tests.environment.world import World
from tests.gateway.test_signing_keys import jwks_server
from tests.gateway.tokens import IdentityProvider
from tests.support.certificates import Authority, environment
from tests.support.redis_proxy import redis_proxying

SESSION, SUBSCRIPTION, PROGRESS, GATEWAY = (
    "session_service",
    "subscription_service",
    "progress_service",
    "gateway",
)
REDIS = "HOMEROOM_REDIS_URL"


@planting("redis_reachable", PROGRESS, Severity.MEDIUM, "Redis cannot be used")
async def a_redis_that_is_stopped(world: World) -> None:
    world.environ[REDIS] = "redis://:not-for-everybody@127.0.0.1:1/0"


@planting("redis_reachable", GATEWAY, Severity.MEDIUM, "Redis cannot be used")
async def a_redis_that_wants_another_password(world: World) -> None:
    client = await _client(world)
    await client.config_set("requirepass", "the-right-one")
    world.environ[REDIS] = _redis_url(world).replace("unix://", "unix://:not-for-everybody@")

    async def reset() -> None:
        allowed = redis.asyncio.from_url(_redis_url(world), password="the-right-one")
        await allowed.config_set("requirepass", "")
        await allowed.aclose()

    world.at_end(reset)


@planting("redis_latency", GATEWAY, Severity.MEDIUM, "Redis answers in")
async def a_slow_redis(world: World) -> None:
    proxy_context = redis_proxying(_redis_url(world).removeprefix("unix://"))
    proxy = await proxy_context.__aenter__()
    proxy.delay_seconds = 0.08

    async def leave() -> None:
        await proxy_context.__aexit__(None, None, None)

    world.at_end(leave)
    world.environ[REDIS] = proxy.url
    world.limit(redis_ms_low=10.0)


@planting("redis_eviction", PROGRESS, Severity.MEDIUM, "the policy is noeviction")
async def a_redis_that_evicts_nothing(world: World) -> None:
    await _configure(world, "maxmemory-policy", "noeviction")


@planting("redis_eviction", PROGRESS, Severity.LOW, "has no maxmemory")
async def a_redis_without_a_bound(world: World) -> None:
    await _configure(world, "maxmemory-policy", "noeviction")
    await _configure(world, "maxmemory", "0")


@planting("redis_memory", PROGRESS, Severity.MEDIUM, "MiB of", "redis_eviction")
async def a_redis_that_is_full(world: World) -> None:
    await _configure(world, "maxmemory-policy", "noeviction")
    client = await _client(world)
    used = (await client.info("memory"))["used_memory"]
    await _configure(world, "maxmemory", str(used))


@planting("redis_writable", PROGRESS, Severity.MEDIUM, "this Redis is a slave")
async def a_replica(world: World) -> None:
    client = await _client(world)
    await client.execute_command("REPLICAOF", "127.0.0.1", "1")

    async def reset() -> None:
        await client.execute_command("REPLICAOF", "NO", "ONE")

    world.at_end(reset)


@planting("disk_space", SESSION, Severity.CRITICAL, "GiB are free")
async def a_disk_that_is_nearly_full(world: World) -> None:
    """Of the disk only the bound is planted."""
    world.limit(disk_bytes_medium=2**62, disk_bytes_high=2**62, disk_bytes_critical=2**62)


@planting("disk_space", SESSION, Severity.MEDIUM, "could not be run: FileNotFoundError")
async def a_folder_that_is_not_there(world: World) -> None:
    world.environ["HOMEROOM_DATABASE_FOLDER"] = "/nowhere/at/all"


@planting("certificate", SESSION, Severity.HIGH, "expires in")
async def a_certificate_that_expires_tomorrow(world: World) -> None:
    authority = Authority.made(world.ground.folder / "tls-expiring")
    world.environ.update(environment(authority.issue("session_service")))


@planting("certificate", SESSION, Severity.CRITICAL, "is not the key of")
async def a_key_of_another_certificate(world: World) -> None:
    authority = Authority.made(world.ground.folder / "tls-mixed")
    files, others = authority.issue("session_service"), authority.issue("gateway")
    world.environ.update(environment(files) | {"HOMEROOM_TLS_KEY": str(others.key)})


@planting("targets", SESSION, Severity.HIGH, "subscription_service is not reached at 127.0.0.1")
async def a_process_that_does_not_run(world: World) -> None:
    world.environ["HOMEROOM_SUBSCRIPTION_TARGET"] = f"127.0.0.1:{free_ports(1)[0]}"


@planting("configuration", SESSION, Severity.CRITICAL, "HOMEROOM_TLS_KEY and HOMEROOM_TLS_CA must be set")
async def tls_that_is_half_given(world: World) -> None:
    world.environ["HOMEROOM_TLS_CERTIFICATE"] = "/etc/homeroom/tls/process.pem"


@planting("configuration", SESSION, Severity.CRITICAL, "HOMEROOM_DATABASE_URL is missing")
async def no_database_url(world: World) -> None:
    del world.environ["HOMEROOM_DATABASE_URL"]


@planting("configuration", SESSION, Severity.CRITICAL, "HOMEROOM_SERVICE_TOKEN is missing")
async def production_mode_without_a_token(world: World) -> None:
    del world.environ["HOMEROOM_SERVICE_TOKEN"]


@planting("configuration", SESSION, Severity.CRITICAL, "HOMEROOM_IDEMPOTENCY_RETENTION_DAYS is 0.5")
async def keys_that_live_half_a_day(world: World) -> None:
    world.environ["HOMEROOM_IDEMPOTENCY_RETENTION_DAYS"] = "0.5"


@planting("configuration", SESSION, Severity.MEDIUM, "for which an upload may be late")
async def keys_that_live_shorter_than_an_upload_waits(world: World) -> None:
    world.environ["HOMEROOM_IDEMPOTENCY_RETENTION_DAYS"] = "1"


@planting("configuration", SESSION, Severity.CRITICAL, "must be at least twice")
async def a_lease_that_is_shorter_than_two_heartbeats(world: World) -> None:
    world.environ["HOMEROOM_SESSION_LEASE_SECONDS"] = "20"
    world.environ["HOMEROOM_SESSION_LEFT_LEASE_SECONDS"] = "10"


@planting("configuration", SESSION, Severity.MEDIUM, "would keep its session for longer")
async def a_left_page_that_outlives_an_open_one(world: World) -> None:
    world.environ["HOMEROOM_SESSION_LEFT_LEASE_SECONDS"] = "600"


@planting("configuration", SESSION, Severity.MEDIUM, "refused with REQUEST_ABORTED")
async def a_janitor_that_is_faster_than_a_client(world: World) -> None:
    world.environ["HOMEROOM_JANITOR_HOLD_AGE_SECONDS"] = "2"


@planting("configuration", PROGRESS, Severity.MEDIUM, "a run is deleted before the next one")
async def runs_that_are_deleted_too_soon(world: World) -> None:
    world.environ["HOMEROOM_SYNC_INTERVAL_HOURS"] = "48"
    world.environ["HOMEROOM_SYNC_RETENTION_DAYS"] = "1"


@planting("configuration", GATEWAY, Severity.LOW, "so it is never reached")
async def a_bound_above_a_wider_one(world: World) -> None:
    world.environ["HOMEROOM_RATE_PER_ADDRESS_MAX"] = "100"


@planting("configuration", SESSION, Severity.HIGH, "the process would call itself")
async def a_target_that_is_the_process_itself(world: World) -> None:
    world.environ["HOMEROOM_BIND"] = world.environ["HOMEROOM_PROGRESS_TARGET"]


@planting("configuration", SESSION, Severity.HIGH, "are the same address")
async def two_targets_that_are_one(world: World) -> None:
    world.environ["HOMEROOM_PROGRESS_TARGET"] = world.environ["HOMEROOM_SUBSCRIPTION_TARGET"]


@planting(
    "configuration", SUBSCRIPTION, Severity.CRITICAL, "HOMEROOM_BIND and HOMEROOM_OPS_BIND are the same"
)
async def two_listeners_on_one_port(world: World) -> None:
    world.environ["HOMEROOM_BIND"] = world.environ["HOMEROOM_OPS_BIND"] = "0.0.0.0:50051"


@planting(
    "configuration", SESSION, Severity.HIGH, "has a password that is easily guessed", "database_reachable"
)
async def a_password_like_the_user(world: World) -> None:
    world.environ["HOMEROOM_DATABASE_URL"] = re.sub(
        r"//[^@]+@", "//session_service:session_service@", world.environ["HOMEROOM_DATABASE_URL"]
    )


@planting("configuration", SESSION, Severity.HIGH, "HOMEROOM_SERVICE_TOKEN is easily guessed")
async def a_token_of_one_letter(world: World) -> None:
    world.environ["HOMEROOM_SERVICE_TOKEN"] = "a" * 32


@planting("configuration", GATEWAY, Severity.HIGH, "which other machines may reach")
async def development_mode_on_every_interface(world: World) -> None:
    world.environ["HOMEROOM_MODE"] = "development"
    world.environ["HOMEROOM_BIND"] = "0.0.0.0:0"


@planting("jwks_usable", GATEWAY, Severity.CRITICAL, "cannot be read: No such file")
async def a_jwks_that_is_missing(world: World) -> None:
    world.environ["HOMEROOM_JWKS"] = str(world.ground.folder / "no-jwks.json")


@planting("jwks_usable", GATEWAY, Severity.CRITICAL, "has no RSA key")
async def a_jwks_without_usable_keys(world: World) -> None:
    _write(world, b'{"keys": []}')


@planting("jwks_usable", GATEWAY, Severity.CRITICAL, "is not JSON of the form")
async def a_jwks_that_is_half_a_file(world: World) -> None:
    _write(world, b'{"keys": [')


@planting("jwks_usable", GATEWAY, Severity.CRITICAL, "contains private keys")
async def a_jwks_with_private_keys(world: World) -> None:
    key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
    _write(world, b'{"keys": [' + json.dumps(key.as_dict(private=True)).encode() + b"]}")


@planting("jwks_usable", GATEWAY, Severity.CRITICAL, "answers 404")
async def an_identity_provider_without_keys(world: World) -> None:
    server = await _identity_provider(world)
    server.status = 404


@planting("jwks_fresh", GATEWAY, Severity.MEDIUM, "a cache on the way has had the keys for 26 h")
async def a_cache_that_keeps_old_keys(world: World) -> None:
    server = await _identity_provider(world)
    server.headers = {"Age": str(26 * 3600)}


@planting("jwks_fresh", GATEWAY, Severity.LOW, "the keys are 500 days old")
async def keys_that_never_change(world: World) -> None:
    path = _write(world, IdentityProvider().jwks())
    then = time.time() - 500 * 86_400
    os.utime(path, (then, then))


@planting("jwks_protected", GATEWAY, Severity.HIGH, "everybody may write the file")
async def a_jwks_that_everybody_may_write(world: World) -> None:
    _write(world, IdentityProvider().jwks()).chmod(0o666)


@planting("jwks_protected", GATEWAY, Severity.MEDIUM, "its group may write the file")
async def a_jwks_that_a_group_may_write(world: World) -> None:
    _write(world, IdentityProvider().jwks()).chmod(0o664)


def _write(world: World, document: bytes) -> Path:
    path = world.ground.folder / "planted.json"
    path.write_bytes(document)
    path.chmod(0o644)
    world.environ["HOMEROOM_JWKS"] = str(path)

    async def remove() -> None:
        path.unlink()

    world.at_end(remove)
    return path


async def _identity_provider(world: World):
    context = jwks_server(IdentityProvider().jwks())
    server = await context.__aenter__()

    async def leave() -> None:
        await context.__aexit__(None, None, None)

    world.at_end(leave)
    world.environ["HOMEROOM_JWKS"] = server.url
    world.environ["HOMEROOM_MODE"] = "development"
    return server


def _redis_url(world: World) -> str:
    if world.ground.redis is None:
        pytest.skip("no Redis binary on this machine")
    return world.ground.redis.url


async def _client(world: World) -> redis.asyncio.Redis:
    client = redis.asyncio.from_url(_redis_url(world), decode_responses=True)
    world.at_end(client.aclose)
    return client


async def _configure(world: World, name: str, value: str) -> None:
    client = await _client(world)
    before = (await client.config_get(name))[name]
    await client.config_set(name, value)

    async def reset() -> None:
        again = redis.asyncio.from_url(_redis_url(world))
        await again.config_set(name, before)
        await again.aclose()

    world.at_end(reset)
