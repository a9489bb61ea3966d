"""A model in vLLM on this machine, asked in batches.

vLLM runs in a process of its own, `python -m tunesmith_serving generate`, which is started with the
first request that no earlier attempt has a reply to, and ends with its input.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import Reporter
from tunesmith_engine.stages.errors import TransientError
from tunesmith_trainer.chat_client import ChatReply, KeptReplies
from tunesmith_trainer.synthesize.language_models import Asked

# So many lines a batch that a bound is looked at now and then.
_BATCH: Final = 32
_PATIENCE_S: Final = 30.0
_KILLED: Final = -9


class LocalModel:
    """The model in `folder`, which the job calls `name`."""

    batch_size = _BATCH

    def __init__(self, folder: Path, *, name: str, kept: KeptReplies, reporter: Reporter) -> None:
        self._folder = folder
        self._kept = kept
        self._reporter = reporter
        self._process: subprocess.Popen[str] | None = None
        self.name = name

    def replies(self, asked: Sequence[Asked]) -> list[ChatReply]:
        """From disk, or else from vLLM, which is asked all that is missing at once."""
        requests = {one: self._request(one) for one in asked}
        known = {one: self._kept.get(self._key(request)) for one, request in requests.items()}
        missing = [one for one, reply in known.items() if reply is None]
        if missing:
            told = self._generated([requests[one] for one in missing])
            for one, new in zip(missing, told, strict=True):
                self._kept.keep(self._key(requests[one]), new)
                known[one] = new
        return [answer for one in asked if (answer := known[one]) is not None]

    def cost(self, *, prompt_tokens: int, completion_tokens: int) -> float | None:  # noqa: ARG002 - nobody is paid by the token
        """Nothing that is known."""
        return None

    def close(self) -> None:
        """End vLLM."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _request(self, asked: Asked) -> dict[str, JsonValue]:
        return {
            "messages": [turn.as_chat() for turn in asked.messages],
            "maxTokens": asked.max_tokens,
            "temperature": asked.temperature,
            "seed": asked.seed,
        }

    def _key(self, request: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return {"model": self.name, **request}

    def _generated(self, requests: Sequence[dict[str, JsonValue]]) -> list[ChatReply]:
        process = self._started()
        try:
            line = self._exchanged(process, json.dumps({"requests": list(requests)}))
            told: list[dict[str, Any]] = json.loads(line)["replies"]
        except (OSError, ValueError, KeyError):
            code = process.wait(_PATIENCE_S)
            killed = code == _KILLED
            raise TransientError(
                Reason.KILLED if killed else Reason.STAGE_CRASHED,
                f"dataset.synthesis.generator: vLLM ended with exit code {code} before it had "
                "answered; the log says why. Give it more memory, or a smaller model.",
            ) from None
        return [
            ChatReply(reply["text"], reply["promptTokens"], reply["completionTokens"])
            for reply in told
        ]

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            self._reporter.progress("loading the generator in vLLM")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tunesmith_serving", "generate", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        return self._process

    @staticmethod
    def _exchanged(process: "subprocess.Popen[str]", line: str) -> str:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a process without pipes")
        process.stdin.write(line + "\n")
        process.stdin.flush()
        # At its end this is no line, and no JSON.
        return process.stdout.readline()
