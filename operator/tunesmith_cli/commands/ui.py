"""`tunesmith ui`: the page of all jobs, served until Ctrl-C."""

import argparse
import sys
import threading

from tunesmith_cli.errors import EXIT_DONE
from tunesmith_cli.terminal.signals import stopping
from tunesmith_cli.ui.server import serve_ui


def run(options: argparse.Namespace) -> int:
    """Say where it is, and wait."""
    stop = threading.Event()
    with (
        serve_ui(options.home, port=options.port) as url,
        stopping(stop, say=lambda _: None),
    ):
        print(f"page {url}", flush=True)
        print("open it in a browser on this machine; Ctrl-C ends it", file=sys.stderr)
        stop.wait()
    return EXIT_DONE
