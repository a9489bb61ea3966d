"""Reports from a pod: an attempt patches its keys of the job's ConfigMap with the pod's own token.

A request of a cluster names its report `configmap://NAMESPACE/NAME/KEY` instead of a file. The
token may patch that ConfigMap and nothing else.
"""

import http.client
import json
import logging
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.reporter import FileReporter, write_atomically

_LOG = logging.getLogger(__name__)

_SCHEME: Final = "configmap://"
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S: Final = 10.0
# How long an API server may be away before a result that took hours is given up.
_PATIENCE_S: Final = 300.0
_FIRST_ERROR: Final = 300


def report_address(namespace: str, name: str, key: str) -> str:
    """The address of one key of a report."""
    return f"{_SCHEME}{namespace}/{name}/{key}"


def is_in_cluster(address: str) -> bool:
    """Whether the address is that of a ConfigMap rather than a path."""
    return address.startswith(_SCHEME)


@dataclass(frozen=True, slots=True)
class ReportMap:
    """The API server as a pod reaches it."""

    host: str
    port: int
    account: Path = _ACCOUNT

    def write(self, address: str, text: str) -> None:
        """Put `text` under the address.

        Raises:
            OSError: the API server does not answer, or refuses.
        """
        namespace, name, key = address.removeprefix(_SCHEME).split("/")
        context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=_TIMEOUT_S, context=context
        )
        # Read anew for every request: the kubelet replaces the token before it expires.
        token = (self.account / "token").read_text(encoding="utf-8").strip()
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/merge-patch+json",
        }
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        try:
            # A merge patch touches this one key: other attempts write beside it at the same time.
            connection.request("PATCH", path, json.dumps({"data": {key: text}}), headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if status >= _FIRST_ERROR:
            raise OSError(f"the API server refused the report {address} with status {status}")


def write_report(address: str, text: str) -> None:
    """Write what must arrive: to a file, or to a ConfigMap for as long as five minutes.

    Raises:
        OSError: it could not be written.
    """
    if not is_in_cluster(address):
        write_atomically(Path(address), text)
        return
    give_up = time.monotonic() + _PATIENCE_S
    delay_s = 1.0
    while True:
        try:
            report_map().write(address, text)
        except (OSError, http.client.HTTPException):
            if time.monotonic() + delay_s > give_up:
                raise
            time.sleep(delay_s)
            delay_s = min(2 * delay_s, 30.0)
        else:
            return


def report_map() -> ReportMap:
    """The API server that Kubernetes names in a pod's environment variables."""
    return ReportMap(
        os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    )


class MapReporter(FileReporter):
    """A reporter that keeps the latest progress in the job's ConfigMap, at most every 10 s."""

    def __init__(self, address: str, *, stage: str) -> None:
        super().__init__(Path(), stage=stage, interval_s=10.0)
        self._address = address

    def _write(self, text: str) -> None:
        """Progress may be lost: a stage does not end because nobody could be told of it."""
        try:
            report_map().write(self._address, text)
        except (OSError, http.client.HTTPException) as error:
            _LOG.warning("progress could not be reported: %s", error)


def reporter_of(request: StageRequest) -> Reporter:
    """The reporter that the request asks for; every process of a stage may have its own."""
    if is_in_cluster(request.report):
        return MapReporter(request.report, stage=request.stage)
    return FileReporter(Path(request.report), stage=request.stage)
