"""FastAPI over SQLAlchemy and asyncpg; served by two uvicorn workers (BENCH_DATABASE_URL)."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import orjson
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from bench.peers.bearer import BearerVerifier, NotAuthenticatedError
from bench.peers.fastapi_sqlalchemy.schemas import StartRequest
from bench.peers.fastapi_sqlalchemy.starts import StartRefusedError, start_session

POOL_SIZE = int(os.environ.get("BENCH_POOL_SIZE", "10"))  # of each of the two workers

engine = create_async_engine(
    make_url(os.environ["BENCH_DATABASE_URL"]).set(drivername="postgresql+asyncpg"),
    pool_size=POOL_SIZE,
    max_overflow=0,
    pool_use_lifo=True,
    json_serializer=lambda value: orjson.dumps(value).decode(),
    json_deserializer=orjson.loads,
)
open_session = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)
verifier = BearerVerifier.from_environment()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    gc.collect()
    gc.freeze()  # what is loaded by now stays for good: collections need not walk it
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan, openapi_url=None)


async def learner(authorization: Annotated[str, Header()] = "") -> str:
    try:
        return verifier.learner(authorization)
    except NotAuthenticatedError as error:
        raise HTTPException(401, "UNAUTHENTICATED") from error


async def database() -> AsyncIterator[AsyncSession]:
    async with open_session() as session:
        yield session


@app.post("/v1/sessions")
async def start(
    http_request: Request,
    body: StartRequest,
    user_id: Annotated[str, Depends(learner)],
    db: Annotated[AsyncSession, Depends(database)],
    idempotency_key: Annotated[str, Header(pattern=r"^[\x21-\x7e]{1,255}$")],
) -> Response:
    raw = await http_request.body()  # already read: pydantic parsed it
    async with db.begin():
        started = await start_session(db, user_id, idempotency_key.strip('"'), body, raw)
    response = Response(started.body, status_code=started.status, media_type="application/json")
    if started.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


@app.get("/readyz")
async def ready() -> Response:
    async with engine.connect():
        return Response("ready")


@app.exception_handler(StartRefusedError)
async def refused(_request: Request, error: StartRefusedError) -> Response:
    return _problem(error.status, error.reason)


@app.exception_handler(HTTPException)
async def http_error(_request: Request, error: HTTPException) -> Response:
    return _problem(error.status_code, error.detail)


@app.exception_handler(RequestValidationError)
async def invalid(_request: Request, error: RequestValidationError) -> Response:
    return _problem(400, "INVALID_ARGUMENT", str(error.errors()))


def _problem(status: int, reason: str, detail: str = "") -> Response:
    body = {"title": reason, "status": status, "reason": reason, "detail": detail}
    return Response(orjson.dumps(body), status_code=status, media_type="application/problem+json")
