"""Greedy answers of a model to rendered prompts, many at a time.

`evaluate` scores them, and `compress` records them as what the serving engine must say, too.
"""

from collections.abc import Callable, Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

BATCH_ROWS = 32

OnBatch = Callable[[int, int], None]


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: those of the model's own settings and the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    known = configured if isinstance(configured, list) else [configured]
    return sorted({each for each in [*known, tokenizer.eos_token_id] if each is not None})


def generate_ids(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
    batch_rows: int = BATCH_ROWS,
    on_batch: OnBatch | None = None,
) -> list[list[int]]:
    """The greedy continuation of each prompt, with the token that ended it if one did.

    Prompts of similar length share a batch and are padded on the left. Nothing but the model's
    own probabilities counts: repetition penalties and the like are left out.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_rows):
        chosen = order[start : start + batch_rows]
        batch = [prompts[index] for index in chosen]
        found = _generate_batch(
            model, batch, stops=stops, pad_id=pad_id, max_new_tokens=max_new_tokens
        )
        for index, answer in zip(chosen, found, strict=True):
            answers[index] = answer
        if on_batch:
            on_batch(start + len(chosen), len(order))
    return answers


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_rows: int = BATCH_ROWS,
    on_batch: OnBatch | None = None,
) -> list[str]:
    """The greedy answer to each rendered prompt, without special tokens and outer white space."""
    stops = stop_ids(model, tokenizer)
    answers = generate_ids(
        model,
        [tokenizer(each, add_special_tokens=False)["input_ids"] for each in prompts],
        stops=stops,
        pad_id=pad_id_of(tokenizer),
        max_new_tokens=max_new_tokens,
        batch_rows=batch_rows,
        on_batch=on_batch,
    )
    return [tokenizer.decode(each, skip_special_tokens=True).strip() for each in answers]


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token to fill rows with; masked everywhere, so any will do where none is declared."""
    for each in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if each is not None:
            return int(each)
    return 0


def _generate_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    stops: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
) -> list[list[int]]:
    width = max(len(each) for each in prompts)
    ids = torch.tensor([[pad_id] * (width - len(each)) + list(each) for each in prompts])
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=_greedy(stops, pad_id=pad_id, max_new_tokens=max_new_tokens),
        )
    return [_until_stop(row, stops=set(stops)) for row in output[:, width:].tolist()]


def _greedy(stops: Sequence[int], *, pad_id: int, max_new_tokens: int) -> GenerationConfig:
    """Settings that name every knob a model's own settings might turn."""
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_new_tokens=None,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stops) or None,
        pad_token_id=pad_id,
    )


def _until_stop(row: list[int], *, stops: set[int]) -> list[int]:
    for place, token in enumerate(row):
        if token in stops:
            return row[: place + 1]
    return row
