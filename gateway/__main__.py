"""The gateway process: `python -m gateway`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from chassis.process.background import STOP_SECONDS_MAX, Background
from chassis.process.config import ConfigError, Mode, load
from chassis.process.lifecycle import Shutdown, run, tune_garbage_collection
from chassis.process.version import version
from chassis.rpc.client import Upstream
from chassis.telemetry.health import Health, OpsPages, OpsServer
from chassis.telemetry.logs import LogLevel, configure, get_logger
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing
from gateway.admission import Admission, Limits
from gateway.application import Application
from gateway.authentication import Authenticator
from gateway.bodies import BodyReader
from gateway.config import Config
from gateway.connections import SWEEP_SECONDS, ConnectionLimits, Connections, connections_possible
from gateway.contract import ContractError, public_methods
from gateway.listener import Listener
from gateway.networks import Networks
from gateway.routes import RouteTable, routes_of
from gateway.signing_keys import JwksError, PrivateKeysError, SigningKeys, keys_from_file, keys_from_url
from gateway.upstreams import check_any

SERVICE = "gateway"
# Requests under way when the process stops get longer than a service takes for one.
DRAIN_SECONDS = 8.0

log = get_logger(__name__)


async def main(shutdown: Shutdown) -> None:
    config = load(Config, os.environ)
    token = config.service_token.reveal() if config.service_token else ""
    configure(service=SERVICE, version=version(), level=config.log_level, hash_secret=token)
    metrics = Metrics(service=SERVICE, version=version())
    tracing = Tracing(
        service=SERVICE,
        version=version(),
        sample_ratio=config.trace_sample_ratio,
        trace_file=config.trace_file,
        otlp_endpoint=config.otlp_endpoint,
    )
    shutdown.closing("tracing", tracing.close)
    health = Health()
    shutdown.at_request(health.drain)
    background = Background(metrics=metrics)
    routes = _routes(config)
    keys = await _signing_keys(config)
    shutdown.closing("signing keys", keys.close)
    health.add("signing keys", keys.check)
    background.add("refresh_signing_keys", keys.refresh, interval_seconds=keys.refresh_seconds)
    upstreams: dict[str, Upstream] = {}
    for name, target in config.targets.items():
        upstream = upstreams[name] = Upstream(
            name=f"{name}_service", target=target, service_token=token, tracing=tracing, metrics=metrics
        )
        shutdown.closing(f"{name}_service", upstream.close)
        health.add(f"{name}_service", upstream.check_health, required=False)
    health.add("any service", partial(check_any, [each.check_health for each in upstreams.values()]))
    connections = Connections(
        limits=ConnectionLimits(
            connections_max=min(config.connections_max, connections_possible()),
            connections_per_address_max=config.connections_per_address_max,
        ),
        metrics=metrics,
    )
    if connections.limits.connections_max < config.connections_max:
        log.warning("connections_limited_by_open_files", connections_max=connections.limits.connections_max)
    background.add("sweep_connections", connections.sweep, interval_seconds=SWEEP_SECONDS)
    admission = Admission(
        limits=Limits(
            in_flight_max=config.in_flight_max,
            in_flight_per_learner_max=config.in_flight_per_learner_max,
            in_flight_per_address_max=config.in_flight_per_address_max,
        ),
        metrics=metrics,
    )
    application = Application(
        routes=routes,
        authenticator=Authenticator(keys=keys, issuer=config.jwt_issuer, audience=config.jwt_audience),
        admission=admission,
        bodies=BodyReader(admission=admission),
        upstreams=upstreams,
        pages=OpsPages(service=SERVICE, version=version(), health=health, metrics=metrics),
        tracing=tracing,
        trace_callers=Networks(config.trace_trusted_networks),
        metrics=metrics,
        draining=lambda: health.draining,
        log_every_request=config.log_level is LogLevel.DEBUG,
    )
    ops = OpsServer(bind=config.ops_bind, service=SERVICE, version=version(), health=health, metrics=metrics)
    listener = Listener(
        bind=config.bind, application=application, connections=connections, grace_seconds=DRAIN_SECONDS
    )
    background.start()
    shutdown.closing("background", background.stop, timeout_seconds=STOP_SECONDS_MAX + 1.0)
    await ops.start()
    shutdown.closing("operations pages", ops.stop)
    await listener.start()
    shutdown.closing("listener", listener.stop, timeout_seconds=DRAIN_SECONDS + 1.0)
    tune_garbage_collection()
    log.info("serving", port=listener.port, ops_port=ops.port, routes=len(routes.routes))
    await shutdown.wait()


def _routes(config: Config) -> RouteTable:
    try:
        return RouteTable(routes_of(public_methods(), config.targets))
    except ContractError as error:
        raise ConfigError([f"the contract in protos/ cannot be served: {error}"]) from error


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
    run(main, name=SERVICE)
