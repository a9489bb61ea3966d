"""`tunesmith chat`: a conversation with what is deployed here, or with a finished job's model.

A deployment is asked by its own endpoint. For a job its published version is served as long as the
conversation lasts.
"""

import argparse
import http.client
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tunesmith_api.validation_errors import near_match
from tunesmith_cli.commands.serve import published_folder
from tunesmith_cli.errors import EXIT_DONE, EXIT_FAILED, CommandError
from tunesmith_cli.inputs import StoredDeployment, find_deployment, find_job
from tunesmith_cli.local_server import served_version
from tunesmith_cli.report.job_data import read_job_data
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
    """Where and how to ask: base URL, model, headers; and where to look when it fails."""

    url: str
    model: str
    headers: Mapping[str, str]
    see: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, the version that said it, and whether the bound on tokens ended it."""

    text: str
    version: str
    is_cut: bool


def run(options: argparse.Namespace) -> int:
    """Answer line after line until stdin ends."""
    with _answering(options) as endpoint:
        _converse(endpoint, max_tokens=options.max_tokens)
    return EXIT_DONE


@contextmanager
def _answering(options: argparse.Namespace) -> Iterator[Endpoint]:
    """The deployment of that name, or else the job's model, served within the block.

    Raises:
        CommandError: there is neither, or it cannot be served.
    """
    home = HomeFolder(options.home)
    deployments, jobs = home.list_deployments(), home.list_jobs()
    is_deployed = options.name in deployments
    if options.name in jobs and not (
        is_deployed and find_deployment(options.name, root=options.home).folder.is_served
    ):
        job = find_job(options.name, root=options.home)
        data = read_job_data(job.folder, job.status)
        model = data.job.spec.output.model if data.job else job.name
        with served_version(published_folder(data), model=model, say=_say) as url:
            yield Endpoint(url, model, _headers(options), see=f"tunesmith serve {job.name}")
    elif is_deployed:
        yield _endpoint(find_deployment(options.name, root=options.home), options)
    else:
        near = near_match(options.name, [*deployments, *jobs])
        hint = f"did you mean '{near}'?" if near else "see: tunesmith jobs"
        raise CommandError(f"no deployment or job '{options.name}' in {options.home}; {hint}")


def _converse(endpoint: Endpoint, *, max_tokens: int) -> None:
    messages: list[dict[str, str]] = []
    is_dialogue = sys.stdin.isatty()
    style = style_of(sys.stderr)
    for line in _lines(prompt="> " if is_dialogue else ""):
        messages.append({"role": "user", "content": line})
        try:
            answer = _print_answer(endpoint, messages, max_tokens=max_tokens)
        except (ChatError, OSError, http.client.HTTPException) as error:
            raise CommandError(
                f"{endpoint.url} gives no whole answer: {error}; see: {endpoint.see}",
                code=EXIT_FAILED,
            ) from error
        messages.append({"role": "assistant", "content": answer.text})
        print(style.paint(f"version {answer.version}", "dim"), file=sys.stderr)
        if answer.is_cut:
            _say(f"the answer ends at {max_tokens} tokens; --max-tokens allows more")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _headers(options: argparse.Namespace) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        CONVERSATION_HEADER: options.conversation_id or uuid.uuid4().hex,
    }


def _endpoint(stored: StoredDeployment, options: argparse.Namespace) -> Endpoint:
    if not stored.folder.is_served or stored.status.endpoint is None:
        raise CommandError(f"nothing serves '{stored.name}' now; start: tunesmith deploy FILE")
    headers = _headers(options)
    key = _api_key(stored, home=HomeFolder(options.home), file=options.api_key_file)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    see = f"tunesmith rollout status {stored.name}"
    return Endpoint(stored.status.endpoint, stored.deployment.spec.model, headers, see=see)


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


def _print_answer(endpoint: Endpoint, messages: list[dict[str, str]], *, max_tokens: int) -> Answer:
    """The answer, printed as it came.

    Raises:
        ChatError: it was refused, or is not whole.
        OSError: nobody listens, or the connection broke.
    """
    url = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(
        url.hostname or "127.0.0.1", url.port, timeout=_TIMEOUT_S
    )
    body = {
        "model": endpoint.model,
        "messages": messages,
        "stream": True,
        "max_tokens": max_tokens,
    }
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
        pieces, is_cut = [], False
        for piece, reason in answer_pieces(response):
            pieces.append(piece)
            is_cut = reason == "length"
            # A model may write what would steer the terminal.
            print("\n".join(map(plain, piece.split("\n"))), end="", flush=True)
        print()
        version = response.getheader(_VERSION_HEADER) or "unknown"
        return Answer("".join(pieces), version, is_cut)
    finally:
        connection.close()


def answer_pieces(
    lines: Iterator[bytes] | http.client.HTTPResponse,
) -> Iterator[tuple[str, str | None]]:
    """The text of a stream of server-sent events, piece by piece, each with why it ends, if so.

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
            yield (choice.get("delta") or {}).get("content") or "", reason
    # A clean end of the connection is no end of the answer.
    raise ChatError("the stream broke off")
