"""Refusals of a crowded gateway, made from the received bytes before they are parsed.

The answer is the one that the application would give: the same order of checks, the same problem, the same
headers, metrics and log lines. Only what it costs is different: about a tenth. While thousands of requests a
second are too many, that decides how many others are served.
"""

from __future__ import annotations

from collections.abc import Callable

from multidict import CIMultiDict, CIMultiDictProxy

from chassis.errors import ServiceError
from chassis.telemetry.logs import bind_request, unbind_request
from chassis.telemetry.metrics import Metrics
from gateway.admission import Admission
from gateway.answers import HttpResponse
from gateway.client_address import ClientAddresses
from gateway.contract import OWN
from gateway.cors import Cors
from gateway.plain_requests import PlainRequest
from gateway.problems import problem
from gateway.rate_limits import RateLimits
from gateway.request_headers import request_id_of
from gateway.request_log import RequestLog
from gateway.routes import RouteTable


class QuickRefusals:
    """Refuses plain requests that could not even wait for room.

    Args:
        draining: whether the process is about to stop; then the application answers, and closes connections.
    """

    def __init__(
        self,
        *,
        routes: RouteTable,
        admission: Admission,
        addresses: ClientAddresses,
        rate_limits: RateLimits,
        cors: Cors,
        metrics: Metrics,
        request_log: RequestLog,
        draining: Callable[[], bool],
    ) -> None:
        self.admission = admission
        self._routes = routes
        self._addresses = addresses
        self._rate_limits = rate_limits
        self._cors = cors
        self._metrics = metrics
        self._log = request_log
        self._draining = draining

    def answer(self, request: PlainRequest, *, peer: str, peer_address: str) -> bytes | None:
        """The refusal; None if the application is to decide.

        Args:
            request: it has not been counted anywhere.
            peer: the host at the other end of the connection.
            peer_address: its address as limits are counted by it.
        """
        path, _, _ = request.target.partition("?")
        try:
            place = self._routes.find(path)
            route = None if place is None else place.routes.get(request.http_method)
            if route is None or route.upstream == OWN or self._draining():
                return None
            door = self.admission.door(route.upstream, route.method)
            cause = door.room.fault(door.share, ahead=self.admission.coming.count)
            if not cause:
                return None
            self._rate_limits.take_address(self._address(request, peer, peer_address))
        except ServiceError:  # of the path, or of the address: the application says so
            return None
        request_id = request_id_of(request.headers.get("x-request-id"))
        answer = problem(door.room.refusal(door.share, cause), instance=path, request_id=request_id)
        self._metrics.observe_call(route.method.path, answer.code, 0.0)
        if self._log.wants(answer.status, 0.0):
            bound = bind_request(request_id)
            self._log.write(
                status=answer.status,
                seconds=0.0,
                http_method=request.http_method,
                path=path,
                method=route.method.path,
                code=answer.code,
            )
            unbind_request(bound)
        lines = ""
        if self._cors.enabled:
            lines = self._cors.lines(request.headers.get("origin", ""), preflight=False)
        response = HttpResponse(answer, request_id=request_id, close=False, lines=lines)
        return response.without_request(keep_alive=True)

    def _address(self, request: PlainRequest, peer: str, peer_address: str) -> str:
        """The client's address, as the application finds it."""
        headers = CIMultiDictProxy(CIMultiDict(request.headers))
        return self._addresses.find(headers, peer=peer, peer_address=peer_address)
