"""What the operator is told at its start: the flags of `tunesmith operator`, read once.

Nothing else of the operator looks at the command line or at environment variables; where the API
server is, the client library finds out itself (KUBECONFIG, or the pod's service account).
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tunesmith_engine.monitoring.prometheus import Prometheus
from tunesmith_engine.stages.contracts import Environment

METRICS_PORT: Final = 8080
HEALTH_PORT: Final = 8081
WORKERS: Final = 32
WORKSPACE_SIZE: Final = "50Gi"
# What the metric of leadership is called, whatever the Lease is.
COMPONENT: Final = "tunesmith-operator"
LEASE_NAME: Final = COMPONENT


@dataclass(frozen=True, slots=True)
class Settings:
    """How this operator works.

    `namespaces` are those whose jobs it runs; none means all. `images` holds one image for each
    environment. `lease_name` is what the replicas of one release agree on a leader by, and
    `lease_namespace` where; None is the pod's own, or `default` outside a cluster. `workspace_size`
    and `workspace_class` are for the claims that the operator makes itself; a class of None is the
    cluster's default. `prometheus_url` is what KEDA asks for the load of deployments, and the
    operator for the queries of rollouts; with None replicas stay as they are given, and queries
    have no number. `accelerator_hour_price` is for jobs and for deployments that name none; None:
    nobody knows it. With a `runbook_url` each deployment with an SLO gets a PrometheusRule, with
    `rule_labels`.
    """

    images: Mapping[Environment, str]
    namespaces: tuple[str, ...] = ()
    workers: int = WORKERS
    metrics_port: int = METRICS_PORT
    health_port: int = HEALTH_PORT
    lease_name: str = LEASE_NAME
    lease_namespace: str | None = None
    workspace_size: str = WORKSPACE_SIZE
    workspace_class: str | None = None
    prometheus_url: str | None = None
    accelerator_hour_price: float | None = None
    runbook_url: str | None = None
    rule_labels: Mapping[str, str] = field(default_factory=dict)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Every flag of `tunesmith operator`."""
    for environment in Environment:
        parser.add_argument(
            f"--{environment}-image",
            metavar="IMAGE",
            required=True,
            help=f"image in which the stages of the {environment} environment run",
        )
    parser.add_argument(
        "--namespace",
        metavar="NAMESPACE",
        action="append",
        default=[],
        help="run the jobs of this namespace; may be given several times (default: all)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=_count,
        default=WORKERS,
        help=f"jobs looked at at the same time (default: {WORKERS})",
    )
    parser.add_argument(
        "--workspace-size",
        metavar="QUANTITY",
        default=WORKSPACE_SIZE,
        help=f"size of the volume that each job gets (default: {WORKSPACE_SIZE})",
    )
    parser.add_argument(
        "--workspace-class",
        metavar="CLASS",
        help="StorageClass of that volume (default: the cluster's)",
    )
    parser.add_argument(
        "--prometheus-url",
        metavar="URL",
        type=prometheus_address,
        help="Prometheus that KEDA asks for the load of deployments with spec.autoscaling, and the "
        "operator for rollout.analysis.queries (default: none, so that replicas stay as given, and "
        "queries without a number)",
    )
    _add_monitoring_flags(parser)
    _add_service_flags(parser)


def settings_from(options: argparse.Namespace) -> Settings:
    """The settings that the parsed flags stand for."""
    return Settings(
        images={name: getattr(options, f"{name}_image") for name in Environment},
        namespaces=tuple(dict.fromkeys(options.namespace)),
        workers=options.workers,
        metrics_port=options.metrics_port,
        health_port=options.health_port,
        lease_name=options.leader_election_id,
        lease_namespace=options.leader_election_namespace,
        workspace_size=options.workspace_size,
        workspace_class=options.workspace_class,
        prometheus_url=options.prometheus_url,
        accelerator_hour_price=options.accelerator_hour_price,
        runbook_url=options.runbook_url,
        rule_labels=dict(options.rule_label),
    )


def _add_monitoring_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accelerator-hour-price",
        metavar="PRICE",
        type=_price,
        help="price of one accelerator for one hour, for metrics of cost (default: unknown)",
    )
    parser.add_argument(
        "--runbook-url",
        metavar="URL",
        help="make a PrometheusRule for each deployment with an slo, and link its alerts to the "
        "pages below URL (default: make none)",
    )
    parser.add_argument(
        "--rule-label",
        metavar="NAME=VALUE",
        action="append",
        type=_label,
        default=[],
        help="a label of those rules, by which Prometheus finds them; may be given several times",
    )


def _add_service_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics-port",
        metavar="PORT",
        type=int,
        default=METRICS_PORT,
        help=f"TCP port of /metrics for Prometheus (default: {METRICS_PORT})",
    )
    parser.add_argument(
        "--health-port",
        metavar="PORT",
        type=int,
        default=HEALTH_PORT,
        help=f"TCP port of /healthz and /readyz (default: {HEALTH_PORT})",
    )
    parser.add_argument(
        "--leader-election-id",
        metavar="NAME",
        default=LEASE_NAME,
        help="name of the Lease that makes one replica the leader; two installations in one "
        f"namespace need two (default: {LEASE_NAME})",
    )
    parser.add_argument(
        "--leader-election-namespace",
        metavar="NAMESPACE",
        help="namespace of the Lease that makes one replica the leader (default: the pod's own)",
    )


def prometheus_address(text: str) -> str:
    """The address of a Prometheus, as the value of a flag."""
    try:
        return Prometheus.at(text).url
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of workers; give 1 or more")
    return int(text)


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no price; give 0 or more")
    return price


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is no label; give NAME=VALUE")
    return name, value
