"""The FineTuneJob that is made when the traffic has drifted: a copy of the one that is named.

It belongs to nobody: deleting the deployment must not end a training, as deleting a job never takes
an endpoint down. Labels say whom it was made for. Of the copied job's metadata nothing is taken, or
a tool that prunes what Git does not hold would take it for its own.
"""

from typing import Final

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_api.base import API_VERSION
from tunesmith_api.modeldeployment.monitoring_status import Retraining
from tunesmith_engine.deployment.observations import RetrainNews
from tunesmith_operator.kube.api_errors import (
    is_namespace_terminating,
    is_refusal,
    refusal_message,
)
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest, is_deleting
from tunesmith_operator.modeldeployment.deployment_ref import DeploymentRef

FINE_TUNE_JOB: Final = "FineTuneJob"
LABEL_RETRAINS: Final = "tunesmith.dev/retrains"
LABEL_RETRAINED_VERSION: Final = "tunesmith.dev/retrained-version"


async def make_next_job(
    client: KubeClient,
    retraining: Retraining,
    *,
    copied: str,
    owner: DeploymentRef,
) -> RetrainNews:
    """Make the job, unless it is there, as the one of the name `copied`; what came of it."""
    template = await client.get(FINE_TUNE_JOB, owner.namespace, copied)
    if template is None or is_deleting(template):
        return RetrainNews(
            retraining.job,
            is_created=False,
            message=f"there is no FineTuneJob {copied!r} to copy (monitoring.retrain.jobName)",
        )
    try:
        # One of that name is it: the name says of which version.
        await client.create(next_job(template, retraining, owner=owner))
    except ApiException as error:
        if not is_refusal(error) or is_namespace_terminating(error):
            raise
        message = refusal_message(error, subject="this deployment")
        return RetrainNews(retraining.job, is_created=False, message=message)
    return RetrainNews(retraining.job, is_created=True)


def next_job(template: Manifest, retraining: Retraining, *, owner: DeploymentRef) -> Manifest:
    """The spec of the job that is copied, as another job that names its own version."""
    spec = {name: value for name, value in template["spec"].items() if name != "suspend"}
    output = {name: value for name, value in spec["output"].items() if name != "version"}
    return {
        "apiVersion": API_VERSION,
        "kind": FINE_TUNE_JOB,
        "metadata": {
            "name": retraining.job,
            "namespace": owner.namespace,
            "labels": {
                LABEL_RETRAINS: owner.name,
                LABEL_RETRAINED_VERSION: retraining.version,
            },
        },
        "spec": {**spec, "output": output},
    }
