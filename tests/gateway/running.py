"""The gateway as its `__main__` puts it together, on a free port, and a client that speaks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from yarl import URL

from chassis.process.background import Background
from chassis.rpc.client import Upstream
from chassis.rpc.methods import Method
from chassis.telemetry.health import Health, OpsPages, OpsServer
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from gateway.admission import Admission, Limits
from gateway.application import Application
from gateway.authentication import Authenticator
from gateway.bodies import BODY_SECONDS_MAX, BodyReader
from gateway.changes.hub import EventHub
from gateway.client_address import ClientAddresses, ForwardedHeader
from gateway.connections import ConnectionLimits, Connections
from gateway.contract import public_methods
from gateway.cors import Cors
from gateway.documents.pages import Pages
from gateway.listener import Listener
from gateway.networks import Networks
from gateway.quick_refusals import QuickRefusals
from gateway.rate_limits import RateLimits
from gateway.request_log import RequestLog
from gateway.routes import RouteTable, routes_of
from gateway.signing_keys import SigningKeys
from gateway.streaming.streams import StreamLimits, Streams
from gateway.upstreams import check_any
from tests.gateway.backend import SERVICE_TOKEN
from tests.gateway.tokens import AUDIENCE, ISSUER, IdentityProvider
from tests.support.event_streams import EventReader

UPSTREAMS = ("session", "subscription", "progress")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def reason(self) -> str:
        """Of a problem, which must look like one."""
        told = self.json()
        assert self.headers["Content-Type"] == "application/problem+json"
        assert told["status"] == self.status
        assert told["requestId"] == self.headers["X-Request-Id"]
        assert isinstance(told["retryable"], bool)
        assert told["type"] == "/problems/" + told["reason"].lower().replace("_", "-")
        assert told["title"]
        assert told["detail"]
        assert isinstance(told["reason"], str)
        return told["reason"]

    @property
    def fields(self) -> dict[str, str]:
        """What a problem says of each field."""
        assert self.reason == "INVALID_ARGUMENT"
        return {error["field"]: error["description"] for error in self.json().get("errors", ())}


class Gateway:
    """A running gateway, and who is asking unless a request says otherwise: the learner `ada`."""

    def __init__(
        self, *, port: int, identity: IdentityProvider, session: aiohttp.ClientSession, parts: Parts
    ) -> None:
        self.port = port
        self.identity = identity
        self.parts = parts
        self._session = session
        self._token = identity.token()

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "",
        key: str | None = "k1",
        body: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends a request: `body` as JSON, or `data` as it is; token None for nobody at all."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token or self._token}")
        if key is not None:
            sent.setdefault("Idempotency-Key", key)
        if body is not None:
            data = orjson.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._session.request(
            method, URL(url, encoded=True), data=data, headers=sent, allow_redirects=False
        ) as response:
            streams = response.content_type == "text/event-stream"  # it may have no end: `stream` reads it
            body = await (response.content.readany() if streams else response.read())
            return Answer(response.status, response.headers, body)

    @asynccontextmanager
    async def stream(
        self, path: str, *, token: str = "", headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> AsyncIterator[EventReader]:
        """Opens a stream of events; the client leaves at the end of the block."""
        sent = {"Authorization": f"Bearer {token or self._token}", **(headers or {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._session.request(method, URL(url, encoded=True), headers=sent) as response:
            yield EventReader(response)

    async def metrics(self) -> str:
        """The page of the operations port."""
        async with self._session.get(f"http://127.0.0.1:{self.parts.ops.port}/metrics") as response:
            assert response.status == 200
            return await response.text()

    async def raw(self, text: bytes) -> bytes:
        """Sends bytes as they are, and reads until the gateway closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(text)
            await writer.drain()
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@dataclass
class Parts:
    """What a test may want to touch inside."""

    admission: Admission
    listener: Listener
    ops: OpsServer
    health: Health
    keys: SigningKeys
    metrics: Metrics
    tracing: Tracing
    streams: Streams


class _Document:
    """A JWKS that a test may replace."""

    def __init__(self, document: bytes) -> None:
        self.document = document

    async def read(self) -> bytes:
        return self.document


@asynccontextmanager
async def running_gateway(
    *,
    upstream_port: int | Mapping[str, int],
    identity: IdentityProvider,
    keys: SigningKeys | None = None,
    trace_file: Path | None = None,
    trace_networks: Sequence[str] = ("127.0.0.0/8",),
    trace_sample_ratio: float = 0.0,
    limits: Limits | None = None,
    stream_limits: StreamLimits | None = None,
    more_methods: Sequence[Method] = (),
    connection_limits: ConnectionLimits | None = None,
    body_seconds_max: float = BODY_SECONDS_MAX,
    idle_seconds_max: float = 60.0,
    rate_limits: RateLimits | None = None,
    cors_origins: Sequence[str] = (),
    proxies: Sequence[str] = (),
    proxy_header: ForwardedHeader = ForwardedHeader.X_FORWARDED_FOR,
) -> AsyncIterator[Gateway]:
    """A gateway whose upstreams listen on one port, or on one each."""
    metrics = Metrics(service="gateway")
    tracing = Tracing(service="gateway", version="0", sample_ratio=trace_sample_ratio, trace_file=trace_file)
    background = Background(metrics=metrics)
    if keys is None:
        document = _Document(identity.jwks())
        keys = SigningKeys(
            read=document.read, refresh_seconds=60.0, unknown_key_seconds=60.0, public_only=True
        )
        await keys.load()
    health = Health(cache_seconds=0.0)
    health.add("signing keys", keys.check)
    background.add("refresh_signing_keys", keys.refresh, interval_seconds=keys.refresh_seconds)
    upstreams: dict[str, Upstream] = {}
    for name in UPSTREAMS:
        port = upstream_port if isinstance(upstream_port, int) else upstream_port[name]
        upstreams[name] = Upstream(
            name=f"{name}_service",
            target=f"127.0.0.1:{port}",
            service_token=SERVICE_TOKEN,
            tracing=tracing,
            metrics=metrics,
        )
        health.add(f"{name}_service", upstreams[name].check_health, required=False)
    health.add("any service", partial(check_any, [each.check_health for each in upstreams.values()]))
    connections = Connections(limits=connection_limits or ConnectionLimits(), metrics=metrics)
    background.add("sweep_connections", connections.sweep, interval_seconds=0.05)
    admission = Admission(limits=limits or Limits(), metrics=metrics)
    streams = Streams(limits=stream_limits or StreamLimits(), metrics=metrics)
    keys.on_withdrawn = streams.authenticate_again
    pages = OpsPages(service="gateway", version="0", health=health, metrics=metrics)
    routes = RouteTable(routes_of([*public_methods(), *more_methods], UPSTREAMS))
    cors = Cors(cors_origins)
    limiters = rate_limits or RateLimits(user=None, address=None, counts=None, metrics=metrics)
    addresses = ClientAddresses(proxies=Networks(proxies), header=proxy_header)
    request_log = RequestLog(every_request=False)
    application = Application(
        routes=routes,
        authenticator=Authenticator(keys=keys, issuer=ISSUER, audience=AUDIENCE),
        cors=cors,
        streams=streams,
        events=EventHub(
            upstreams=upstreams,
            secret=SERVICE_TOKEN,
            metrics=metrics,
            background=background,
            interval_seconds=0.05,
        ),
        rate_limits=limiters,
        addresses=addresses,
        admission=admission,
        bodies=BodyReader(admission=admission, seconds_max=body_seconds_max),
        upstreams=upstreams,
        pages=pages,
        documents=Pages(routes.routes, version="0"),
        tracing=tracing,
        trace_callers=Networks(trace_networks),
        metrics=metrics,
        draining=lambda: health.draining,
        request_log=request_log,
    )
    quick = QuickRefusals(
        routes=routes,
        admission=admission,
        addresses=addresses,
        rate_limits=limiters,
        cors=cors,
        metrics=metrics,
        request_log=request_log,
        draining=lambda: health.draining,
    )
    ops = OpsServer(bind="127.0.0.1:0", pages=pages)
    listener = Listener(
        bind="127.0.0.1:0",
        application=application,
        connections=connections,
        quick=quick,
        grace_seconds=5.0,
        idle_seconds_max=idle_seconds_max,
    )
    background.start()
    await ops.start()
    await listener.start()
    parts = Parts(admission, listener, ops, health, keys, metrics, tracing, streams)
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=30)
        ) as session:
            yield Gateway(port=listener.port, identity=identity, session=session, parts=parts)
    finally:
        await listener.stop()
        await ops.stop()
        await background.stop()
        for upstream in upstreams.values():
            await upstream.close()
        await keys.close()
        await tracing.close()
