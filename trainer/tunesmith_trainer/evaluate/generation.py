"""Greedy generation from rendered prompts, in batches.

`evaluate` scores what base and tuned model generate; `compress` records what the compressed model
generates as the reference for `verify`, where the serving engine must say the same.
"""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_trainer.evaluate.log_likelihood import OnBatch

BATCH_ROWS = 32


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: those of the model's own settings and the tokenizer's.

    Chat models end a turn with a token that is often named in only one of the two.
    """
    configured = model.generation_config.eos_token_id if model.generation_config else None
    known = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [*known, tokenizer.eos_token_id] if token is not None})


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token to fill rows with; masked everywhere, so any will do where none is declared."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


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

    Nothing but the model's own probabilities counts: repetition penalties and the like are left
    out. `on_batch(prompts_done, prompts)` is called after each batch.
    """
    # NB: each knob is named. `generate` fills in what is None from the model's own settings, and
    # hub models come with penalties and sampling that no serving engine would repeat.
    greedy = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_new_tokens=None,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stops) or None,
        pad_token_id=pad_id,
    )
    continuations: list[list[int]] = [[] for _ in prompts]
    # Prompts of similar length share a batch, so that little of it is padding.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_rows):
        batch = order[start : start + batch_rows]
        rows = generate_batch(model, [prompts[index] for index in batch], config=greedy)
        for index, row in zip(batch, rows, strict=True):
            continuations[index] = _until_stop(row, stops=stops)
        if on_batch:
            on_batch(start + len(batch), len(order))
    return continuations


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_rows: int = BATCH_ROWS,
    on_batch: OnBatch | None = None,
) -> list[str]:
    """The greedy answer to each rendered prompt, without special tokens and outer white space."""
    continuations = generate_ids(
        model,
        # The template has rendered the special tokens already; the tokenizer would add them again.
        [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts],
        stops=stop_ids(model, tokenizer),
        pad_id=pad_id_of(tokenizer),
        max_new_tokens=max_new_tokens,
        batch_rows=batch_rows,
        on_batch=on_batch,
    )
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in continuations]


def generate_batch(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, config: GenerationConfig
) -> list[list[int]]:
    """New tokens of each prompt, sampled or not as `config` says, padded behind an early stop."""
    width = max(len(ids) for ids in prompts)
    # NB: on the left. A decoder goes on behind the last column, which must be the prompt's last
    # token; `generate` counts positions from the mask, so that padding shifts none of them.
    ids = [[config.pad_token_id] * (width - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    with torch.inference_mode():
        output = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=config,
        )
    rows: list[list[int]] = output[:, width:].tolist()
    return rows


def _until_stop(row: list[int], *, stops: Sequence[int]) -> list[int]:
    for place, token in enumerate(row):
        if token in stops:
            return row[: place + 1]
    return row
