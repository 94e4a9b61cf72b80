"""The gateway process: `python -m gateway [run|diagnose]`."""

from __future__ import annotations

import argparse
import asyncio
import os
from functools import partial
from pathlib import Path

from chassis.process.config import ConfigError, Mode, load
from chassis.process.diagnose import run_diagnosis
from chassis.process.lifecycle import Shutdown, run
from chassis.process.process import Process
from chassis.process.version import version
from chassis.rpc.methods import ROOM, Priority
from chassis.rpc.pacing import Pacer
from chassis.telemetry.logs import LogLevel, get_logger
from gateway.admission import Admission, Limits
from gateway.application import Application
from gateway.authentication import Authenticator
from gateway.bodies import BodyReader
from gateway.changes.hub import EventHub
from gateway.client_address import ClientAddresses
from gateway.config import Config
from gateway.connections import SWEEP_SECONDS, ConnectionLimits, Connections, connections_possible
from gateway.contract import ContractError, public_methods
from gateway.cors import Cors
from gateway.documents.pages import Pages
from gateway.environment import ENVIRONMENT_CHECKS
from gateway.garbage import CHECK_SECONDS, GarbagePauses
from gateway.listener import Listener
from gateway.networks import Networks
from gateway.overload import RoomLimits
from gateway.quick_refusals import QuickRefusals
from gateway.rate_limits import SYNC_SECONDS, Quota, RateLimits
from gateway.request_log import RequestLog
from gateway.routes import RouteTable, routes_of
from gateway.shared_counts import RedisCounts
from gateway.signing_keys import JwksError, PrivateKeysError, SigningKeys, keys_from_file, keys_from_url
from gateway.streaming.streams import StreamLimits, Streams
from gateway.upstreams import check_any

SERVICE = "gateway"
# Requests under way when the listener closes get longer than a service takes for one.
FINISH_SECONDS = 8.0

log = get_logger(__name__)


async def main(shutdown: Shutdown) -> None:
    config = load(Config, os.environ)
    process = Process.begin(SERVICE, config, shutdown)
    routes = _routes(config)
    keys = await _signing_keys(config)
    shutdown.closing("signing keys", keys.close)
    process.health.add("signing keys", keys.check)
    process.background.add("refresh_signing_keys", keys.refresh, interval_seconds=keys.refresh_seconds)
    admission = Admission(
        limits=Limits(
            room=RoomLimits(in_flight_max=config.in_flight_max),
            in_flight_per_learner_max=config.in_flight_per_learner_max,
            in_flight_per_address_max=config.in_flight_per_address_max,
        ),
        metrics=process.metrics,
    )
    garbage = GarbagePauses(crowded=lambda: admission.crowded)
    process.background.add("pause_garbage", garbage.check, interval_seconds=CHECK_SECONDS)
    pacer = Pacer(paced=lambda: admission.crowded)
    # The gateway's own rooms decide (gateway/overload.py): this is the most that one of them has.
    calls_max = int(config.in_flight_max * ROOM[Priority.HIGH])
    upstreams = {
        name: process.upstream(f"{name}_service", target, in_flight_max=calls_max, pacer=pacer)
        for name, target in config.targets.items()
    }
    for name, upstream in upstreams.items():
        process.health.add(f"{name}_service", upstream.check_health, required=False)
    process.health.add("any service", partial(check_any, [each.check_health for each in upstreams.values()]))
    connections = Connections(
        limits=ConnectionLimits(
            connections_max=min(config.connections_max, connections_possible()),
            connections_per_address_max=config.connections_per_address_max,
        ),
        metrics=process.metrics,
    )
    if connections.limits.connections_max < config.connections_max:
        log.warning("connections_limited_by_open_files", connections_max=connections.limits.connections_max)
    process.background.add("sweep_connections", connections.sweep, interval_seconds=SWEEP_SECONDS)
    counts = None if config.redis_url is None else RedisCounts(config.redis_url.reveal())
    if counts is not None:
        shutdown.closing("shared counts", counts.close)
    rate_limits = RateLimits(
        user=_quota("user", config.rate_per_user_max, config),
        address=_quota("address", config.rate_per_address_max, config),
        counts=counts,
        metrics=process.metrics,
    )
    process.background.add("share_rate_limits", rate_limits.sync, interval_seconds=SYNC_SECONDS)
    streams = Streams(
        limits=StreamLimits(
            streams_max=config.streams_max,
            streams_per_learner_max=config.streams_per_learner_max,
            seconds_max=config.stream_seconds_max,
        ),
        metrics=process.metrics,
    )
    shutdown.at_request(streams.stop)
    cors = Cors(config.cors_origins)
    addresses = ClientAddresses(proxies=Networks(config.proxy_networks), header=config.proxy_header)
    request_log = RequestLog(every_request=config.log_level is LogLevel.DEBUG)
    keys.on_withdrawn = streams.authenticate_again
    application = Application(
        routes=routes,
        authenticator=Authenticator(keys=keys, issuer=config.jwt_issuer, audience=config.jwt_audience),
        cors=cors,
        rate_limits=rate_limits,
        streams=streams,
        events=EventHub(
            upstreams=upstreams,
            secret=process.token,
            metrics=process.metrics,
            background=process.background,
        ),
        addresses=addresses,
        admission=admission,
        bodies=BodyReader(admission=admission),
        upstreams=upstreams,
        pages=process.pages,
        documents=Pages(routes.routes, version=version()),
        tracing=process.tracing,
        trace_callers=Networks(config.trace_trusted_networks),
        metrics=process.metrics,
        draining=lambda: process.health.draining,
        request_log=request_log,
    )
    quick = QuickRefusals(
        routes=routes,
        admission=admission,
        addresses=addresses,
        rate_limits=rate_limits,
        cors=cors,
        metrics=process.metrics,
        request_log=request_log,
        draining=lambda: process.health.draining,
    )
    listener = Listener(
        bind=config.bind,
        application=application,
        connections=connections,
        quick=quick,
        grace_seconds=FINISH_SECONDS,
    )
    await process.serve(listener, stop_seconds_max=FINISH_SECONDS + 1.0)
    await shutdown.wait()
    # Load balancers send requests until they have seen that this process is not ready.
    await asyncio.sleep(config.drain_seconds)


def _routes(config: Config) -> RouteTable:
    try:
        return RouteTable(routes_of(public_methods(), config.targets))
    except ContractError as error:
        raise ConfigError([f"the contract in protos/ cannot be served: {error}"]) from error


def _quota(name: str, requests_max: int, config: Config) -> Quota | None:
    return Quota(name, requests_max, config.rate_window_seconds) if requests_max else None


async def _signing_keys(config: Config) -> SigningKeys:
    """The keys, loaded. A file must be usable; an identity provider may be away for now."""
    public_only = config.mode is Mode.PRODUCTION
    if config.jwks_is_url:
        keys = keys_from_url(config.jwks, public_only=public_only)
    else:
        keys = keys_from_file(Path(config.jwks), public_only=public_only)
    try:
        await keys.load()
    except JwksError as error:
        if isinstance(error, PrivateKeysError) or not config.jwks_is_url:
            raise ConfigError([f"HOMEROOM_JWKS cannot be used: {error}"]) from error
        log.warning("signing_keys_not_read", problem=str(error))
    return keys


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m gateway", description="HTTP in front of the services.")
    parser.add_argument("command", nargs="?", choices=("run", "diagnose"), default="run")
    if parser.parse_args().command == "diagnose":
        run_diagnosis(SERVICE, Config, checks=ENVIRONMENT_CHECKS)
    run(main, name=SERVICE)
