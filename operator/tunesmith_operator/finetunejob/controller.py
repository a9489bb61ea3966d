"""The controller of FineTuneJobs, as `app.py` registers it."""

from functools import partial
from typing import Final

from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.stage import Catalog
from tunesmith_operator.controller.child_cache import ChildCache, ChildWatch
from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.finetunejob.attempts import CHILD_KINDS
from tunesmith_operator.finetunejob.child_names import LABEL_JOB, shared_name
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.finetunejob.metrics import JobMetrics
from tunesmith_operator.finetunejob.parsing import has_ended
from tunesmith_operator.finetunejob.reconciler import Reconciler
from tunesmith_operator.kube.child_kind import is_over
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.resources import CONFIG_MAP, POD, RAY_JOB
from tunesmith_operator.settings import Settings

WATCHES: Final = (
    *(
        ChildWatch(
            kind.resource,
            LABEL_JOB,
            is_over=partial(is_over, kind),
            pod_label=kind.pod_label,
            unread_spec=kind.unread_spec,
            is_optional=kind.resource == RAY_JOB,
        )
        for kind in CHILD_KINDS.values()
    ),
    ChildWatch(POD, LABEL_JOB, unread_spec=frozenset({"containers", "initContainers"})),
    # Of ConfigMaps only the report: others hold requests that are too large for an annotation.
    ChildWatch(CONFIG_MAP, LABEL_JOB, is_kept=lambda key, name: name == shared_name(key.name)),
)


def finetunejob_controller(
    client: KubeClient,
    settings: Settings,
    recorder: EventRecorder,
    *,
    catalog: Catalog = CATALOG,
) -> Controller:
    """The controller, with caches that know nothing yet."""
    jobs, children = ObjectCache(has_ended=has_ended), ChildCache(WATCHES)
    metrics = JobMetrics()
    reconciler = Reconciler(
        client, settings, recorder, jobs=jobs, children=children, catalog=catalog, metrics=metrics
    )
    return Controller(
        FINE_TUNE_JOB,
        reconciler.reconcile,
        objects=jobs,
        children=children,
        collectors=metrics.collectors,
    )
