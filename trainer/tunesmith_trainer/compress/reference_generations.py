"""Reference answers: what the compressed model says in transformers, for `verify` to compare with.

Greedy answers to held-out prompts and to fixed questions, with the log-probability of each chosen
token. The weights are those that ship; the arithmetic is fp32, so that a server's rounding counts
against the server.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.compress.probes import PROBES
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.evaluate.generation import (
    OnBatch,
    generate_ids,
    pad_id_of,
    stop_ids,
)
from tunesmith_trainer.evaluate.log_likelihood import token_logprobs

DEFAULT_MODEL_LENGTH = 2048
_TEXT_PROMPT_TOKENS = 32


@dataclass(frozen=True, slots=True)
class ReferencePrompt:
    """Token ids up to where the answer starts, and where they come from."""

    ids: list[int]
    kind: str


def reference_prompts(
    request: StageRequest, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
) -> list[ReferencePrompt]:
    """`verification.prompts` prompts of the job's rows, held-out ones first, then the questions.

    Prompts that leave no room for the answer within the served length are passed over.
    """
    spec = request.spec
    served = spec.serving.max_model_length or DEFAULT_MODEL_LENGTH
    longest = max(1, served - spec.verification.max_new_tokens)
    of_rows = (ids for ids in _row_prompts(prepared, tokenizer) if len(ids) <= longest)
    of_probes = (_probe_ids(tokenizer, each) for each in PROBES)
    return [
        *(ReferencePrompt(ids, "heldOut") for ids in islice(of_rows, spec.verification.prompts)),
        *(ReferencePrompt(ids, "probe") for ids in of_probes if len(ids) <= longest),
    ]


def reference_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[ReferencePrompt],
    *,
    max_new_tokens: int,
    on_batch: OnBatch | None = None,
) -> dict[str, JsonValue]:
    """The content of `reference.json`; log-probabilities are nats."""
    answers = generate_ids(
        model,
        [prompt.ids for prompt in prompts],
        stops=stop_ids(model, tokenizer),
        pad_id=pad_id_of(tokenizer),
        max_new_tokens=max_new_tokens,
        on_batch=on_batch,
    )
    pairs = zip(prompts, answers, strict=True)
    return {
        "dtype": "float32",
        "prompts": [_record(model, prompt, answer) for prompt, answer in pairs],
    }


def _record(model: PreTrainedModel, prompt: ReferencePrompt, answer: list[int]) -> JsonValue:
    logprobs = token_logprobs(model, [*prompt.ids, *answer], num_last=len(answer))
    return {
        "promptIds": list(prompt.ids),
        "answerIds": list(answer),
        "logprobs": [round(each, 6) for each in logprobs],
        "kind": prompt.kind,
    }


def _row_prompts(prepared: Prepared, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Prompts of the held-out rows, then of the training rows; the start of rows without one."""
    records = [*prepared.records("validation"), *prepared.records("train")]
    rows = [prepared.validation.row(index) for index in range(len(prepared.validation))]
    rows += [prepared.train.row(index) for index in range(len(prepared.train))]
    for record, (ids, _) in zip(records, rows, strict=True):
        if record.prompt is not None:
            yield tokenizer(record.prompt, add_special_tokens=False)["input_ids"]
        else:
            yield ids[: max(1, min(_TEXT_PROMPT_TOKENS, len(ids) // 2))].tolist()


def _probe_ids(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    if tokenizer.chat_template is None:
        return list(tokenizer(question)["input_ids"])
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
