"""The whole way in one command: fine-tune, compress and verify, then serve and ask a question.

`make demo` runs this in the control environment. Everything goes through the `tunesmith` command,
as a user would type it; only the question is asked from here, with the OpenAI SDK. A second run
takes the finished stages from the first and goes straight to serving.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from openai import APIConnectionError, OpenAI

HERE = Path(__file__).parent
JOB = HERE / "job.yaml"
TUNESMITH = Path(sys.executable).with_name("tunesmith")
QUESTION = "What is the capital of Japan?"
SERVER_START_S = 300
NUM_SHOWN = 6


def main() -> int:
    """Run, serve, ask; the exit code is the command's."""
    options = _options()
    started = time.monotonic()
    run = subprocess.run(
        [TUNESMITH, "run", JOB, "--home", options.home, "--output", "json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        return run.returncode
    outcome = json.loads(run.stdout)
    _show_answers(outcome)
    with _served(options.home) as client:
        answer = _ask(client, options.question)
    print(f"\nThe served model, asked through the OpenAI SDK:\n  you:   {options.question}")
    print(f"  model: {answer}")
    print(f"\nReport: {outcome['report']}")
    print(f"Manifest to answer: {time.monotonic() - started:.0f} s")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune, serve and ask a model for small talk.")
    parser.add_argument(
        "--home",
        type=Path,
        default=HERE.parents[1] / "build" / "demo",
        help="where jobs, models and the report are kept (default: build/demo)",
    )
    parser.add_argument("--question", default=QUESTION, help="what to ask the served model")
    return parser.parse_args()


def _show_answers(outcome: dict[str, Any]) -> None:
    """The first held-out questions, as the base model and the tuned one answered them."""
    uri = next(each["uri"] for each in outcome["artifacts"] if each["name"] == "evaluation")
    evaluation = json.loads(Path(unquote(urlsplit(uri).path)).read_text(encoding="utf-8"))
    print("\nHeld-out questions, which the training never saw:")
    for sample in evaluation["samples"][:NUM_SHOWN]:
        print(f"\n  asked: {_question_in(sample)}")
        print(f"  base:  {_one_line(sample['base'])}")
        print(f"  tuned: {_one_line(sample['tuned'])}")


def _question_in(sample: dict[str, str]) -> str:
    """The user's words in a prompt that the chat template rendered."""
    return sample["prompt"].rsplit("<|im_start|>user\n", 1)[-1].split("<|im_end|>", 1)[0]


def _one_line(text: str, *, width: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


@contextmanager
def _served(home: Path) -> Iterator[OpenAI]:
    """A client of the served model; the server ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_path = home / "server.log"
    print(f"\nStarting vLLM on port {port} (a minute or two); its log is {log_path}", flush=True)
    with log_path.open("w") as log:
        command: list[str | Path] = [TUNESMITH, "serve", "smalltalk", "--home", home]
        command += ["--port", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _ready_client(server, port=port, log_path=log_path)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)


def _ready_client(server: subprocess.Popen[bytes], *, port: int, log_path: Path) -> OpenAI:
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", max_retries=0)
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"demo: the server ended with {server.returncode}; see {log_path}")
        try:
            client.models.list()
        except APIConnectionError:
            time.sleep(0.5)
        else:
            return client
    raise SystemExit(f"demo: the server did not answer in {SERVER_START_S} s; see {log_path}")


def _ask(client: OpenAI, question: str) -> str:
    answer = client.chat.completions.create(
        model="smalltalk",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=64,
    )
    return answer.choices[0].message.content or ""


if __name__ == "__main__":
    sys.exit(main())
