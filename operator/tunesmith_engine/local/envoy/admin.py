"""Envoy's admin interface, as far as it is asked: which routes it uses, and what it has counted."""

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.local.envoy.config import ROUTES, route_in

_TIMEOUT_S: Final = 2.0
_COUNTERS: Final = ("upstream_rq_total", "upstream_rq_active", "membership_healthy")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AdminClient:
    """`url` is the interface's, of the loopback interface. Each method raises `OSError`."""

    url: str

    def route(self) -> Route | None:
        """The route in use; None while there is none of ours."""
        dump = self._get("config_dump", resource="dynamic_route_configs")
        for config in dump.get("configs", ()):
            if config.get("route_config", {}).get("name") == ROUTES:
                return route_in(config.get("version_info", ""))
        return None

    def num_refused(self) -> int:
        """How many files were refused so far, of routes or clusters: no dump tells why."""
        pattern = rf"(\.rds\.{ROUTES}|^cluster_manager\.cds)\.update_rejected$"
        stats = self._get("stats", format="json", filter=pattern)
        return sum(stat.get("value", 0) for stat in stats["stats"])

    def cluster_names(self) -> set[str]:
        """Clusters that are warm: those that a route can use."""
        return {cluster["name"] for cluster in self._get("clusters", format="json").get(
            "cluster_statuses", ()
        )}  # fmt: skip

    def counters(self) -> dict[str, dict[str, int]]:
        """Of each cluster: requests so far, requests under way, healthy replicas."""
        pattern = rf"^cluster\.[^.]+\.({'|'.join(_COUNTERS)})$"
        stats = self._get("stats", format="json", filter=pattern)["stats"]
        counters: dict[str, dict[str, int]] = {}
        for stat in stats:
            if "value" in stat:
                _, cluster, name = stat["name"].split(".")
                counters.setdefault(cluster, {})[name] = stat["value"]
        return counters

    def is_up(self) -> bool:
        """Whether it listens for clients."""
        return bool(self._get("server_info")["state"] == "LIVE")

    def _get(self, path: str, **query: str) -> Json:
        url = f"{self.url}/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - loopback
            content: Json = json.load(response)
            return content
