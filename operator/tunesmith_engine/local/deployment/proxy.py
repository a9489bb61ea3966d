"""The proxy of a deployment: kept running, steered, and read as `advance` wants to know it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tunesmith_api.modeldeployment.rollout import Sticky
from tunesmith_api.reasons import Reason
from tunesmith_engine.deployment.observations import Route, RouteState
from tunesmith_engine.local.deployment.replica_process import free_port
from tunesmith_engine.local.envoy.config import HOST, STICKY, Endpoint
from tunesmith_engine.local.envoy.proxy import Envoy, ProxyError

Ports = Mapping[str, Sequence[int]]


class Proxy(Protocol):
    """What splits the requests; `ports` are where the replicas of each revision listen."""

    def start(self) -> None:
        """Listen, or raise `ProxyError`."""

    def observe(self) -> RouteState:
        """The route in use; a proxy that has ended is started again."""

    def apply(self, route: Route, ports: Ports) -> None:
        """Have the route in use, or have told so when that takes long."""

    def stop(self) -> None:
        """End it."""


class EnvoyProxy:
    """Envoy; its files lie in `folder`.

    NB: it ends with the thread that starts it, so only the main thread may.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        sticky: Sticky = STICKY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._port = port
        self._now = now
        self._sticky: Sticky = sticky
        self._envoy = self._new_envoy()
        self._in_use: Route | None = None
        self._since: datetime | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self._port}/v1"

    def start(self) -> None:
        self._envoy.start()

    def observe(self) -> RouteState:
        failure = self._keep_running()
        state = self._envoy.observe()
        if state.in_use != self._in_use:
            self._in_use, self._since = state.in_use, self._now()
        if failure or not state.is_running:
            return RouteState(failure=Reason.PROXY_DOWN, message=failure or "Envoy has ended")
        log = self._folder / "envoy.log"
        return RouteState(
            in_use=state.in_use,
            since=self._since,
            achieved=state.achieved,
            failure=Reason.ROUTE_NOT_ACCEPTED if state.is_refused else None,
            message=f"Envoy refuses the route; {log} says why" if state.is_refused else "",
            endpoint=self.endpoint,
        )

    def apply(self, route: Route, ports: Ports) -> None:
        # NB: `advance` names stable first. Envoy draws conversations to the first revision as its
        # weight grows, and never back: that has to be the candidate.
        weights = dict(reversed(tuple(route.weights.items())))
        endpoints = {
            revision: [Endpoint(HOST, port) for port in replicas]
            for revision, replicas in ports.items()
        }
        self._envoy.apply(Route(weights, route.mirror, route.mirror_percent), endpoints)

    def stop(self) -> None:
        self._envoy.stop()

    def _new_envoy(self) -> Envoy:
        return Envoy(self._folder, port=self._port, admin_port=free_port(), sticky=self._sticky)

    def _keep_running(self) -> str:
        """Start it if it does not run; why that failed, empty if it did not."""
        if self._envoy.is_running:
            return ""
        # A port of its own that was free may be taken by now.
        self._envoy = self._new_envoy()
        try:
            self._envoy.start()
        except ProxyError as error:
            return str(error)
        return ""
