"""The operator as a program: which controllers run, with which settings.

A second kind is one more line of `CONTROLLERS`; its right to be read stands in `permissions.py`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.runner import Options, run
from tunesmith_operator.finetunejob.controller import finetunejob_controller
from tunesmith_operator.finetunejob.job_ref import FINE_TUNE_JOB
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.resources import Resource
from tunesmith_operator.modeldeployment.controller import modeldeployment_controller
from tunesmith_operator.modeldeployment.deployment_ref import MODEL_DEPLOYMENT, MODEL_VERSION
from tunesmith_operator.settings import COMPONENT, Settings

_Make = Callable[[KubeClient, Settings, EventRecorder], Controller]
CONTROLLERS: Final[Mapping[Resource, _Make]] = {
    FINE_TUNE_JOB: finetunejob_controller,
    MODEL_DEPLOYMENT: modeldeployment_controller,
}
# Jobs leave versions behind, and deployments serve them; nobody changes one.
RECORDS: Final = (MODEL_VERSION,)


def main(settings: Settings) -> None:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        SystemExit: the Lease was lost, or a watch has failed for good.
    """

    def build(client: KubeClient, recorder: EventRecorder) -> list[Controller]:
        return [make(client, settings, recorder) for make in CONTROLLERS.values()]

    options = Options(
        namespaces=settings.namespaces,
        workers=settings.workers,
        metrics_port=settings.metrics_port,
        health_port=settings.health_port,
        component=COMPONENT,
        lease_name=settings.lease_name,
        lease_namespace=settings.lease_namespace,
    )
    run(options, resources=(*CONTROLLERS, *RECORDS), build=build)
