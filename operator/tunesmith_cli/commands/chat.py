"""`tunesmith chat`: a conversation with what is deployed on this machine, by its own endpoint."""

import argparse
import http.client
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tunesmith_cli.errors import EXIT_DONE, EXIT_FAILED, CommandError
from tunesmith_cli.inputs import StoredDeployment, find_deployment
from tunesmith_cli.terminal.style import plain, style_of
from tunesmith_engine.deployment.request_identity import CONVERSATION_HEADER
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.credentials import API_KEY, read_secret

# A first token may take long on a slow machine.
_TIMEOUT_S: Final = 600.0
_VERSION_HEADER: Final = "x-tunesmith-version"
_MAX_ERROR: Final = 300


class ChatError(Exception):
    """The endpoint refused, or broke off; the message says how."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to ask: base URL, model, headers."""

    url: str
    model: str
    headers: Mapping[str, str]


def run(options: argparse.Namespace) -> int:
    """Answer line after line until stdin ends."""
    stored = find_deployment(options.name, root=options.home)
    endpoint = _endpoint(stored, options)
    messages: list[dict[str, str]] = []
    is_dialogue = sys.stdin.isatty()
    style = style_of(sys.stderr)
    for line in _lines(prompt="> " if is_dialogue else ""):
        messages.append({"role": "user", "content": line})
        try:
            answer, version = _print_answer(endpoint, messages)
        except (ChatError, OSError, http.client.HTTPException) as error:
            raise CommandError(
                f"{endpoint.url} gives no whole answer: {error}; see: "
                f"tunesmith rollout status {stored.name}",
                code=EXIT_FAILED,
            ) from error
        messages.append({"role": "assistant", "content": answer})
        print(style.paint(f"version {version}", "dim"), file=sys.stderr)
    return EXIT_DONE


def _endpoint(stored: StoredDeployment, options: argparse.Namespace) -> Endpoint:
    if not stored.folder.is_served or stored.status.endpoint is None:
        raise CommandError(f"nothing serves '{stored.name}' now; start: tunesmith deploy FILE")
    headers = {
        "Content-Type": "application/json",
        CONVERSATION_HEADER: options.conversation_id or uuid.uuid4().hex,
    }
    key = _api_key(stored, home=HomeFolder(options.home), file=options.api_key_file)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return Endpoint(stored.status.endpoint, stored.deployment.spec.model, headers)


def _api_key(stored: StoredDeployment, *, home: HomeFolder, file: Path | None) -> str | None:
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    reference = stored.deployment.spec.api_keys
    return read_secret(reference, secrets=home.secrets).get(API_KEY) if reference else None


def _lines(*, prompt: str) -> Iterator[str]:
    while True:
        print(prompt, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _print_answer(endpoint: Endpoint, messages: list[dict[str, str]]) -> tuple[str, str]:
    """The whole answer, printed as it came, and the version that gave it.

    Raises:
        ChatError: it was refused, or is not whole.
        OSError: nobody listens, or the connection broke.
    """
    url = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(
        url.hostname or "127.0.0.1", url.port, timeout=_TIMEOUT_S
    )
    body = {"model": endpoint.model, "messages": messages, "stream": True}
    try:
        connection.request(
            "POST",
            f"{url.path}/chat/completions",
            body=json.dumps(body).encode(),
            headers=dict(endpoint.headers),
        )
        response = connection.getresponse()
        if response.status != http.client.OK:
            said = response.read(_MAX_ERROR).decode(errors="replace")
            raise ChatError(f"HTTP {response.status}, {plain(said)}")
        pieces = []
        for piece in answer_pieces(response):
            pieces.append(piece)
            # A model may write what would steer the terminal.
            print("\n".join(map(plain, piece.split("\n"))), end="", flush=True)
        print()
        return "".join(pieces), response.getheader(_VERSION_HEADER) or "unknown"
    finally:
        connection.close()


def answer_pieces(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[str]:
    """The text of a stream of server-sent events, piece by piece.

    Raises:
        ChatError: it ends without a reason for its end, with an error, or was given up.
    """
    reason: str | None = None
    for line in lines:
        text = line.decode(errors="replace").strip()
        if not text.startswith("data:"):
            continue
        data = text.removeprefix("data:").strip()
        if data == "[DONE]":
            if reason in {None, "abort"}:
                raise ChatError(f"it ended with {reason or 'no reason'}")
            return
        event: dict[str, Any] = json.loads(data)
        if "error" in event:
            raise ChatError(plain(str(event["error"]))[:_MAX_ERROR])
        for choice in event.get("choices", ()):
            reason = choice.get("finish_reason") or reason
            yield (choice.get("delta") or {}).get("content") or ""
    # A clean end of the connection is no end of the answer.
    raise ChatError("the stream broke off")
