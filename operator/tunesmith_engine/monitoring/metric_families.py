"""The metrics that the operator exports of deployments and jobs: names, labels and meaning.

Exporters, rules, dashboards and tests go by this table. `tunesmith_serving.tap.metrics` has those
of the replicas, which cannot see this package.
"""

from dataclasses import dataclass
from typing import Final, Literal

_DEPLOYMENT: Final = ("namespace", "deployment")
_VERSION: Final = (*_DEPLOYMENT, "version")
# NB: what a replica exports is joined with these by `revision`, which Prometheus takes from the
# pod: the role of a revision changes while its pods run, and two revisions may have one version.
_REVISION: Final = (*_VERSION, "revision", "role")


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """One name, with its labels.

    NB: create every series of a counter at 0. Prometheus sees no increase in one that is born at 1.
    """

    name: str
    type: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    about: str


DEPLOYMENT_INFO: Final = MetricFamily(
    "tunesmith_deployment_info", "gauge", (*_REVISION, "model"), "1 for each revision that serves."
)
REPLICAS: Final = MetricFamily(
    "tunesmith_deployment_replicas", "gauge", _REVISION, "Replicas that there have to be."
)
READY_REPLICAS: Final = MetricFamily(
    "tunesmith_deployment_ready_replicas", "gauge", _REVISION, "Replicas that generate correctly."
)
ACCELERATORS: Final = MetricFamily(
    "tunesmith_deployment_accelerators", "gauge", _REVISION, "Accelerators that replicas hold."
)
WEIGHT: Final = MetricFamily(
    "tunesmith_deployment_weight_ratio", "gauge", _REVISION, "Share of requests it has to get."
)
ACHIEVED_WEIGHT: Final = MetricFamily(
    "tunesmith_deployment_achieved_weight_ratio", "gauge", _REVISION, "Share of requests it got."
)
PHASE: Final = MetricFamily(
    "tunesmith_deployment_phase", "gauge", (*_DEPLOYMENT, "phase"), "1 for the phase it is in."
)
PRICE: Final = MetricFamily(
    "tunesmith_deployment_accelerator_hour_price",
    "gauge",
    _DEPLOYMENT,
    "Price of one accelerator for one hour.",
)
JUDGE_LOG_E: Final = MetricFamily(
    "tunesmith_judge_log_e_value",
    "gauge",
    (*_VERSION, "metric", "kind"),
    "Natural logarithm of the judge's evidence against `no worse` and against `worse`.",
)
ROLLOUTS: Final = MetricFamily(
    "tunesmith_rollouts_total", "counter", (*_DEPLOYMENT, "result"), "Rollouts that have ended."
)
DRIFT_LOG_E: Final = MetricFamily(
    "tunesmith_drift_log_e_value",
    "gauge",
    (*_VERSION, "signal"),
    "Natural logarithm of the evidence that the traffic is not that of the reference.",
)
DRIFT_EFFECT: Final = MetricFamily(
    "tunesmith_drift_effect",
    "gauge",
    (*_VERSION, "signal"),
    "How far the traffic is from the reference: 0 not at all, 1 altogether.",
)
# Exported, not written into the alert: the detector shares its error budget among its signals, and
# a second copy of its threshold would void what it promises.
DRIFT_THRESHOLD: Final = MetricFamily(
    "tunesmith_drift_log_e_threshold",
    "gauge",
    _VERSION,
    "Evidence from which on the detector calls it drift.",
)
ARTIFACT_MISMATCH: Final = MetricFamily(
    "tunesmith_artifact_mismatch",
    "gauge",
    _VERSION,
    "1 where replicas do not answer as the published version does.",
)
JOB_GPU_SECONDS: Final = MetricFamily(
    "tunesmith_job_gpu_seconds_total",
    "counter",
    ("namespace", "model"),
    "Seconds in which stages ran, times their accelerators.",
)
DEFAULT_PRICE: Final = MetricFamily(
    "tunesmith_accelerator_hour_price",
    "gauge",
    (),
    "Price of one accelerator for one hour where a deployment names none, and for jobs.",
)

FAMILIES: Final = (
    DEPLOYMENT_INFO,
    REPLICAS,
    READY_REPLICAS,
    ACCELERATORS,
    WEIGHT,
    ACHIEVED_WEIGHT,
    PHASE,
    PRICE,
    JUDGE_LOG_E,
    ROLLOUTS,
    DRIFT_LOG_E,
    DRIFT_EFFECT,
    DRIFT_THRESHOLD,
    ARTIFACT_MISMATCH,
    JOB_GPU_SECONDS,
    DEFAULT_PRICE,
)
