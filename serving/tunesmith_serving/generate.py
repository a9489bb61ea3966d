"""`python -m tunesmith_serving generate FOLDER`: a model in vLLM that answers batches of requests.

A line of JSON comes in for each batch, and one goes out. The process ends when its input does: it
outlives no stage that has started it. The settings are those of every model here, so that the same
kernels write which `verify` has judged.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.serving import Serving
from tunesmith_serving.platforms import installed_platform, read_capability
from tunesmith_serving.processor import read_flags
from tunesmith_serving.settings import ServingSettings, settings_for


class Request(ApiModel):
    """A conversation to answer, in the protocol's form."""

    messages: list[dict[str, Any]]
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: float = 0.0
    seed: int | None = None


class Batch(ApiModel):
    """What one line holds."""

    requests: list[Request]


class Reply(ApiModel):
    """An answer; without a word, and without tokens, to a conversation that is too long."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class Replies(ApiModel):
    """The line that answers a batch."""

    replies: list[Reply]


def generate(argv: list[str]) -> int:
    """Answer batches until there are no more."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith_serving generate")
    parser.add_argument("folder", type=Path, help="the model: safetensors with their tokenizer")
    folder = parser.parse_args(argv).folder
    # NB: libraries print, and a line of theirs would be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine: _Engine | None = None
    for batch in _batches(sys.stdin):
        engine = engine or _Engine(folder)
        replies = Replies(replies=engine.answer(batch.requests))
        answers.write(replies.model_dump_json(by_alias=True) + "\n")
        answers.flush()
    if engine is not None:
        engine.close()
    return 0


def _batches(lines: TextIO) -> Iterator[Batch]:
    # NB: not `for line in lines`, which reads ahead.
    while line := lines.readline():
        yield Batch.model_validate_json(line)


class _Engine:
    """The model, loaded."""

    def __init__(self, folder: Path) -> None:
        settings = _settings(folder)
        # NB: vLLM reads its environment variables while it is imported, so they are set before.
        os.environ.update(settings.environment())
        from vllm import LLM

        self._llm = LLM(model=str(folder), disable_log_stats=True, **settings.engine_arguments())
        self._tokenizer = self._llm.get_tokenizer()
        self._longest = settings.max_model_length

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """A reply to each, all of them written at once."""
        from vllm import SamplingParams

        prompts = [self._rendered(request) for request in requests]
        fitting = [place for place, ids in enumerate(prompts) if len(ids) < self._longest]
        outputs = self._llm.generate(
            [{"prompt_token_ids": prompts[place]} for place in fitting],
            [
                SamplingParams(
                    max_tokens=requests[place].max_tokens,
                    temperature=requests[place].temperature,
                    seed=requests[place].seed,
                )
                for place in fitting
            ],
            use_tqdm=False,
        )
        replies = [Reply(text="", prompt_tokens=0, completion_tokens=0) for _ in requests]
        for place, output in zip(fitting, outputs, strict=True):
            answer = output.outputs[0]
            replies[place] = Reply(
                text=answer.text,
                prompt_tokens=len(prompts[place]),
                completion_tokens=len(answer.token_ids),
            )
        return replies

    def close(self) -> None:
        """End vLLM's engine process, and with it its hold on memory."""
        self._llm.llm_engine.engine_core.shutdown()

    def _rendered(self, request: Request) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            request.messages, tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def _settings(folder: Path) -> ServingSettings:
    return settings_for(
        # What compiling takes, a few hundred rows do not give back.
        Serving(enforce_eager=True),
        name=folder.name,
        folder=folder,
        platform=installed_platform(),
        flags=read_flags(),
        capability=read_capability(),
    )
