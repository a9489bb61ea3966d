"""`tunesmith watch`: a deployment live, on this machine or in a cluster."""

import argparse
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

from tunesmith_cli.cluster_sighting import ClusterDeployment
from tunesmith_cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from tunesmith_cli.inputs import find_deployment
from tunesmith_cli.terminal.style import is_terminal, style_of
from tunesmith_cli.terminal.watch_screen import WatchScreen
from tunesmith_cli.terminal.watch_view import view_lines
from tunesmith_engine.local.deployment.sighting import look_at
from tunesmith_engine.monitoring.history import LOOK_S, History
from tunesmith_engine.monitoring.sighting import Sighting
from tunesmith_engine.monitoring.view import DeploymentView

# Rates are what was counted from one look to the next.
_LOOKS_OF_ONE: Final = 2
Look = Callable[[], Sighting]


def run(options: argparse.Namespace) -> int:
    """Show it until Ctrl-C, or once."""
    look = _look(options)
    try:
        if options.once or options.output == "json":
            return _once(look, as_json=options.output == "json")
        if is_terminal(sys.stdout):
            _live(look)
        else:
            _lines(look)
    except KeyboardInterrupt:
        # How a watch ends: nothing was left half done, so there is nothing to say.
        return EXIT_INTERRUPTED
    return EXIT_DONE


def _look(options: argparse.Namespace) -> Look:
    """How the deployment is seen.

    Raises:
        CommandError: there is no such deployment, or nobody to ask.
    """
    if options.namespace is not None:
        return ClusterDeployment(options.name, namespace=options.namespace).look
    stored = find_deployment(options.name, root=options.home)
    return lambda: look_at(stored.folder, stored.deployment)


def _once(look: Look, *, as_json: bool) -> int:
    views = _views(look)
    for _ in range(_LOOKS_OF_ONE):
        view = next(views)
    if as_json:
        print(view.model_dump_json(by_alias=True, indent=1))
    else:
        print("\n".join(view_lines(view, style=style_of(sys.stdout))))
    return EXIT_DONE if view.is_available else EXIT_FAILED


def _live(look: Look) -> None:
    with WatchScreen(sys.stdout, style=style_of(sys.stdout)) as screen:
        for view in _views(look):
            screen.show(view)


def _lines(look: Look) -> None:
    for view in _views(look):
        print("\n".join(view_lines(view, style=style_of(sys.stdout))), end="\n\n", flush=True)


def _views(look: Look) -> Iterator[DeploymentView]:
    """The view of every look, without end."""
    history, pause = History(), threading.Event()
    while True:
        history = history.after(look())
        if history.view is not None:
            yield history.view
        pause.wait(LOOK_S)
