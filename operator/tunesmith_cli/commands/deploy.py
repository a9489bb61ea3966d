"""`tunesmith deploy`: a deployment from its manifest, served until Ctrl-C, with a live view."""

import argparse
import sys
import threading
from collections.abc import Callable

from tunesmith_api.conditions import ConditionType
from tunesmith_api.modeldeployment.status import DeploymentCondition, ModelDeploymentStatus
from tunesmith_cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, CommandError
from tunesmith_cli.inputs import open_deployment
from tunesmith_cli.live.server import serve_page
from tunesmith_cli.live.watcher import Watcher
from tunesmith_cli.options import default_home
from tunesmith_cli.terminal.deployment import deployment_display
from tunesmith_cli.terminal.signals import stopping
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder
from tunesmith_engine.local.deployment.launch import serve_launcher
from tunesmith_engine.local.deployment.proxy import EnvoyProxy
from tunesmith_engine.local.deployment.runner import run_deployment
from tunesmith_engine.local.deployment.sighting import look_at
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.envoy.config import STICKY
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.monitoring.prometheus import Prometheus

Holds = Callable[[ModelDeploymentStatus], bool]


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C, or until what `--until` says."""
    deployment, text = open_deployment(options.file)
    if deployment.spec.rollout.analysis.queries and options.prometheus is None:
        raise CommandError(
            f"{options.file}: spec.rollout.analysis.queries need a Prometheus; give --prometheus "
            "http://HOST:PORT, or take the queries out"
        )
    home, name, stop = HomeFolder(options.home), deployment.metadata.name, threading.Event()
    folder = DeploymentFolder.of(home, name)
    launcher = serve_launcher(
        deployment.spec,
        environments=Environments.discover(),
        secrets=home.secrets,
        salt=folder.salt(),
    )
    with (
        Watcher(lambda: look_at(folder, deployment)) as watcher,
        serve_page(watcher, port=options.page_port) as page,
        deployment_display(name, stream=sys.stderr) as display,
        stopping(stop, say=display.say),
    ):
        display.say(f"page {page}")
        status = run_deployment(
            deployment,
            manifest_text=text,
            home=home,
            proxy=EnvoyProxy(
                folder.proxy,
                port=deployment.spec.port,
                sticky=deployment.spec.rollout.sticky or STICKY,
            ),
            launcher=launcher,
            watch=display.show,
            stop=stop,
            prometheus=Prometheus.at(options.prometheus) if options.prometheus else None,
            is_over=_is_over(options.until),
        )
    if stop.is_set():
        home_option = "" if home.root == default_home() else f" --home {home.root}"
        prometheus = f" --prometheus {options.prometheus}" if options.prometheus else ""
        again = f"tunesmith deploy {options.file}{home_option}{prometheus}"
        print(f"stopped; to go on: {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_FAILED if _has(status, ConditionType.STALLED) else EXIT_DONE


def _is_over(until: str | None) -> Holds:
    """When nothing is waited for any more; what has stalled will not get there."""
    if until is None:
        return lambda _: False
    if until == "serving":
        return lambda status: (
            _has(status, DeploymentCondition.AVAILABLE) or _has(status, ConditionType.STALLED)
        )
    return lambda status: bool(status.conditions) and not _has(status, ConditionType.RECONCILING)


def _has(status: ModelDeploymentStatus, condition: str) -> bool:
    return any(c.type == condition and c.status == "True" for c in status.conditions)
