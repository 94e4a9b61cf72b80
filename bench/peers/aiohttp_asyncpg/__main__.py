"""One aiohttp process over asyncpg: `python -m bench.peers.aiohttp_asyncpg one_statement|steps`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import msgspec
import uvloop
from aiohttp import web

from bench.peers.aiohttp_asyncpg import one_statement, steps
from bench.peers.aiohttp_asyncpg.contract import Started, StartRefusedError, StartRequest
from bench.peers.bearer import BearerVerifier, NotAuthenticatedError

POOL_SIZE = int(os.environ.get("BENCH_POOL_SIZE", "16"))
BODY_BYTES_MAX = 1 << 20
KEY = re.compile(r"[\x21-\x7e]{1,255}")

Start = Callable[[asyncpg.Connection, str, str, StartRequest, bytes], Awaitable[Started]]
WAYS: dict[str, Start] = {"one_statement": one_statement.start_session, "steps": steps.start_session}

START = web.AppKey("start", Start)
VERIFIER = web.AppKey("verifier", BearerVerifier)
POOL: web.AppKey[asyncpg.Pool] = web.AppKey("pool", asyncpg.Pool)

_decode = msgspec.json.Decoder(StartRequest).decode


async def start(request: web.Request) -> web.Response:
    try:
        user_id = request.app[VERIFIER].learner(request.headers.get("Authorization", ""))
        key = _key(request)
        raw = await request.read()
        body = _decode(raw)
        async with request.app[POOL].acquire() as connection:
            started = await request.app[START](connection, user_id, key, body, raw)
    except NotAuthenticatedError:
        return _problem(401, "UNAUTHENTICATED")
    except msgspec.DecodeError as error:
        return _problem(400, "INVALID_ARGUMENT", str(error))
    except StartRefusedError as refused:
        return _problem(refused.status, refused.reason)
    response = web.Response(status=started.status, text=started.body, content_type="application/json")
    if started.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _key(request: web.Request) -> str:
    key = request.headers.get("Idempotency-Key", "").strip('"')
    if KEY.fullmatch(key) is None:
        raise StartRefusedError(400, "IDEMPOTENCY_KEY_MISSING")
    return key


def _problem(status: int, reason: str, detail: str = "") -> web.Response:
    body = {"title": reason, "status": status, "reason": reason, "detail": detail}
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/problem+json"
    )


async def ready(_request: web.Request) -> web.Response:
    return web.Response(text="ready")


async def open_pool(app: web.Application) -> AsyncIterator[None]:
    async def keep(_connection: asyncpg.Connection) -> None:
        """No session state is ever set, so the round trip that asyncpg spends on clearing it is saved."""

    async with asyncpg.create_pool(
        os.environ["BENCH_DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE, reset=keep
    ) as pool:
        app[POOL] = pool
        yield


def application(way: str) -> web.Application:
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[START] = WAYS[way]
    app[VERIFIER] = BearerVerifier.from_environment()
    app.router.add_post("/v1/sessions", start)
    app.router.add_get("/readyz", ready)
    app.cleanup_ctx.append(open_pool)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(
        application(sys.argv[1]),
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        access_log=None,
        print=None,
    )
