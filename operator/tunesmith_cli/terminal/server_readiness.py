"""Says when a server answers, and how to ask it: vLLM takes a minute or more to load a model.

`tunesmith serve` becomes the server, so a process of its own watches it, an orphan on purpose: as a
child it would stay a zombie for as long as the server runs.
"""

import json
import os
import sys
import time
from typing import Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from tunesmith_cli.formats import duration
from tunesmith_engine.local.process_table import ProcessIdentity, identify, is_alive

_POLL_S: Final = 0.5
_TIMEOUT_S: Final = 5.0
# An address that means all of the machine's is none to connect to.
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - nothing is bound here


def url_of(host: str, port: int) -> str:
    """Where clients on this machine reach the server."""
    return f"http://{_ANY_ADDRESS.get(host, host)}:{port}/v1"


def announce_when_ready(url: str) -> None:
    """Return at once; a process stays that writes to stderr as soon as this one answers there.

    It ends with this process, whatever becomes of that.
    """
    server = identify(os.getpid())
    # NB: before anything else is started. Only the thread that forks goes on in the new process.
    if child := os.fork():
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0 and server is not None:
            wait_until_ready(url, server=server)
    finally:
        # Neither what Python does at its end nor a KeyboardInterrupt is this process's to show.
        os._exit(0)


def wait_until_ready(url: str, *, server: ProcessIdentity) -> None:
    """Wait for the first answer, and say how to ask; return without a word if the server ends."""
    started = time.monotonic()
    while is_alive(server):
        model = served_model(url)
        if model is not None:
            said = how_to_ask(url, model=model, seconds=time.monotonic() - started)
            print(said, file=sys.stderr, flush=True)
            return
        time.sleep(_POLL_S)


def how_to_ask(url: str, *, model: str, seconds: float) -> str:
    """A command that can be pasted."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello."}]}
    return (
        f"ready after {duration(seconds)}: {model} answers at {url}; Ctrl-C ends it. Ask it:\n"
        f"  curl {url}/chat/completions -H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )


def served_model(url: str) -> str | None:
    """The name of the model that answers there; None where nobody does yet."""
    # No proxy: one that the environment names does not lead back to this machine.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"{url}/models", timeout=_TIMEOUT_S) as answer:
            return str(json.load(answer)["data"][0]["id"])
    except (URLError, OSError, ValueError, LookupError, TypeError):
        return None
