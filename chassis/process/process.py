"""What every process has: its logs, metrics, traces, health, background work, and the ports it serves on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from chassis import failpoints
from chassis.process.background import STOP_SECONDS_MAX, Background
from chassis.process.config import PREFIX, ConfigError, Mode, ProcessConfig
from chassis.process.lifecycle import CLOSE_SECONDS, Shutdown, tune_garbage_collection
from chassis.process.version import version
from chassis.rpc.client import IN_FLIGHT_MAX, Upstream
from chassis.rpc.pacing import Pacer
from chassis.rpc.tls import TlsError, TlsFiles, TlsIdentity
from chassis.telemetry import logs
from chassis.telemetry.health import Health, OpsPages, OpsServer
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.tracing import Tracing

# Renewed files are used after this time at the latest.
RENEW_INTERVAL_SECONDS = 30.0

log = logs.get_logger(__name__)


class Listener(Protocol):
    """Serves on one port."""

    @property
    def port(self) -> int: ...

    async def start(self) -> None:
        """Listen; raises OSError when that is not possible on its address."""

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Process:
    """The parts that every process has; all of them are closed at the end of the process."""

    config: ProcessConfig
    shutdown: Shutdown
    token: str = field(repr=False)
    metrics: Metrics
    tracing: Tracing
    health: Health
    pages: OpsPages
    background: Background
    identity: TlsIdentity | None
    _upstreams: list[Upstream] = field(default_factory=list)

    @classmethod
    def begin(cls, name: str, config: ProcessConfig, shutdown: Shutdown) -> Process:
        """Configure the logs and the failpoints, and make the parts; raises ConfigError."""
        token = config.service_token.reveal() if config.service_token else ""
        logs.configure(service=name, version=version(), level=config.log_level, hash_secret=token)
        try:
            failpoints.configure(config.failpoints_dir, allowed=config.mode is Mode.DEVELOPMENT)
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        metrics = Metrics(service=name, version=version())
        tracing = Tracing(
            service=name,
            version=version(),
            sample_ratio=config.trace_sample_ratio,
            trace_file=config.trace_file,
            otlp_endpoint=config.otlp_endpoint,
        )
        shutdown.closing("tracing", tracing.close)
        health = Health()
        shutdown.at_request(health.drain)
        pages = OpsPages(service=name, version=version(), health=health, metrics=metrics)
        background = Background(metrics=metrics)
        identity = _identity(config, metrics)
        process = cls(config, shutdown, token, metrics, tracing, health, pages, background, identity)
        if identity is not None:
            background.add("renew_certificates", process._renew, interval_seconds=RENEW_INTERVAL_SECONDS)
        return process

    def upstream(
        self,
        name: str,
        target: str,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        pacer: Pacer | None = None,
    ) -> Upstream:
        """A client of another process; it is closed after the work that uses it has ended."""
        upstream = Upstream(
            name=name,
            target=target,
            service_token=self.token,
            tracing=self.tracing,
            metrics=self.metrics,
            in_flight_max=in_flight_max,
            identity=self.identity,
            pacer=pacer,
        )
        self._upstreams.append(upstream)
        self.shutdown.closing(name, upstream.close)
        return upstream

    async def serve(self, listener: Listener, *, stop_seconds_max: float) -> None:
        """Open the operations pages, then the listener on `BIND`, and begin the background work.

        Raises:
            ConfigError: one of the two addresses cannot be listened on, such as a port that is taken.
        """
        self.shutdown.closing("background", self.background.stop, timeout_seconds=STOP_SECONDS_MAX + 1.0)
        ops = OpsServer(bind=self.config.ops_bind, pages=self.pages)
        await self._open("OPS_BIND", self.config.ops_bind, ops)
        await self._open("BIND", self.config.bind, listener, stop_seconds_max)
        self.background.start()
        tune_garbage_collection()
        log.info("serving", port=listener.port, ops_port=ops.port)

    async def _renew(self) -> None:
        """Use renewed certificates for the calls to others. The server reads them at each connection."""
        if self.identity is None:
            return
        self.identity.renew()
        for upstream in self._upstreams:
            await upstream.renew()

    async def _open(
        self, variable: str, address: str, listener: Listener, stop_seconds_max: float = CLOSE_SECONDS
    ) -> None:
        try:
            await listener.start()
        except OSError as error:
            problem = (
                f"{address} is taken by another process, is no address of this machine, or needs more rights"
            )
            raise ConfigError([f"{PREFIX}{variable} cannot be used: {problem}"]) from error
        self.shutdown.closing(f"listener on {variable}", listener.stop, timeout_seconds=stop_seconds_max)


def _identity(config: ProcessConfig, metrics: Metrics) -> TlsIdentity | None:
    """The certificate of this process; None without TLS. Raises ConfigError."""
    if config.tls_certificate is None or config.tls_key is None or config.tls_ca is None:
        return None
    try:
        identity = TlsIdentity(TlsFiles(config.tls_certificate, config.tls_key, config.tls_ca))
    except TlsError as error:
        raise ConfigError([f"{PREFIX}TLS_* cannot be used: {error}"]) from error
    metrics.gauge(
        "tls_certificate_expires_timestamp_seconds",
        "The Unix time at which the certificate of this process expires.",
        lambda: identity.expires_at,
    )
    return identity
