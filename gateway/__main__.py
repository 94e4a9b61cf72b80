"""The gateway process: `python -m gateway`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chassis.telemetry import logs
from chassis.process import lifecycle as process
from chassis.rpc.client import Upstream
from chassis.process.config import ConfigError, load
from chassis.telemetry.logs import LogLevel
from chassis.telemetry.health import Health, OpsPages
from chassis.telemetry.metrics import Metrics
from chassis.process.lifecycle import Shutdown
from chassis.telemetry.tracing import Tracing
from chassis.process.version import version
from gateway.application import Application
from gateway.authentication import Authenticator
from gateway.config import Config
from gateway.contract import ContractError, public_methods
from gateway.listener import Listener
from gateway.routes import RouteTable, routes_of
from gateway.signing_keys import JwksError, SigningKeys, keys_from_file, keys_from_url

SERVICE = "gateway"
# Answers under way at the end get longer than a service takes for one.
DRAIN_SECONDS = 8.0

log = logs.get_logger(__name__)


async def main(shutdown: Shutdown) -> None:
    config = load(Config, os.environ)
    token = config.service_token.reveal() if config.service_token else ""
    logs.configure(service=SERVICE, version=version(), level=config.log_level, hash_secret=token)
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
    routes = _routes(config)
    keys = await _signing_keys(config)
    shutdown.closing("signing keys", keys.close)
    health.add("signing keys", keys.check)
    upstreams: dict[str, Upstream] = {}
    for name, target in config.targets.items():
        upstream = Upstream(
            name=f"{name}_service", target=target, service_token=token, tracing=tracing, metrics=metrics
        )
        upstreams[name] = upstream
        shutdown.closing(f"{name}_service", upstream.close)
        health.add(f"{name}_service", upstream.check_health)
    application = Application(
        routes=routes,
        authenticator=Authenticator(keys=keys, issuer=config.jwt_issuer, audience=config.jwt_audience),
        upstreams=upstreams,
        pages=OpsPages(service=SERVICE, version=version(), health=health, metrics=metrics),
        tracing=tracing,
        metrics=metrics,
        draining=lambda: health.draining,
        log_every_request=config.log_level is LogLevel.DEBUG,
    )
    listener = Listener(bind=config.bind, application=application, grace_seconds=DRAIN_SECONDS)
    await listener.start()
    shutdown.closing("listener", listener.stop, timeout_seconds=DRAIN_SECONDS + 1.0)
    process.tune_garbage_collection()
    log.info("serving", port=listener.port, routes=len(routes.routes))
    await shutdown.wait()


def _routes(config: Config) -> RouteTable:
    try:
        return RouteTable(routes_of(public_methods(), config.targets))
    except ContractError as error:
        raise ConfigError([f"the contract in protos/ cannot be served: {error}"]) from error


async def _signing_keys(config: Config) -> SigningKeys:
    """The keys, loaded. A file must be right; an identity provider may be down for now."""
    keys = keys_from_url(config.jwks) if config.jwks_is_url else keys_from_file(Path(config.jwks))
    try:
        await keys.load()
    except JwksError as error:
        if not config.jwks_is_url:
            raise ConfigError([f"HOMEROOM_JWKS cannot be used: {error}"]) from error
        log.warning(
            "signing keys cannot be read yet; no request will be let in until they are", problem=str(error)
        )
    keys.keep_fresh()
    return keys


if __name__ == "__main__":
    sys.exit(process.run(main))
