"""`python -m tunesmith_serving serve FOLDER`: this process becomes vLLM's OpenAI server.

It becomes the server instead of starting one, so that a signal to it reaches vLLM, which ends its
engine process itself.
"""

import argparse
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from tunesmith_engine.stages.entry import EXIT_BAD_INPUT
from tunesmith_serving.published import ServeError, read_published

# The `vllm` command fails in the build for CPUs; the server's module does not.
_SERVER = "vllm.entrypoints.openai.api_server"


def serve(argv: list[str]) -> int:
    """Check the folder and the address, then become the server.

    Return only if they are refused: the exit code.
    """
    arguments = _parser().parse_args(argv)
    try:
        become(*_server(arguments))
    except ServeError as error:
        sys.stderr.write(f"serve: {error}\n")
    return EXIT_BAD_INPUT


def _server(arguments: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """The server's command and what its environment needs, once nothing speaks against it."""
    folder = arguments.folder.expanduser().resolve()
    require_free_port(arguments.host, arguments.port)
    settings = read_published(folder)
    options = settings.command_line(
        folder, name=arguments.name or settings.model, host=arguments.host, port=arguments.port
    )
    return [sys.executable, "-m", _SERVER, *options], settings.environment()


def become(command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by `command`, with `environment` added to its own."""
    sys.stderr.flush()
    os.execve(command[0], command, {**os.environ, **environment})  # noqa: S606 - no shell is meant


def require_free_port(host: str, port: int) -> None:
    """Find out now what vLLM would only notice after it has loaded the model.

    Raises:
        ServeError: the address is in use, or not of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port."
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunesmith_serving serve", description="Serve a published model with vLLM."
    )
    parser.add_argument("folder", type=Path, help="the folder of a published version")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen on")
    parser.add_argument("--name", help="name of the model for clients; default: the published one")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:  # noqa: PLR2004 - what TCP has
        raise ValueError(text)
    return port
