"""Greedy generation from rendered prompts, in batches.

`evaluate` scores what base and tuned model generate; `compress` records what the compressed model
generates as the reference for `verify`, where the serving engine must say the same.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import torch
from torch.nn import functional as F
from transformers import (
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tunesmith_trainer.evaluate.log_likelihood import OnBatch
from tunesmith_trainer.evaluate.packed_linears import packed_linears

BATCH_ROWS: Final = 32
# In one batch. A batch more takes about as long on a processor as to compute so many tokens.
MAX_PADDING_TOKENS: Final = 1024
# After so many tokens the rows that have ended leave their batch.
BLOCK_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """Token ids of a prompt and of its answer, and the answer without special tokens."""

    prompt_ids: tuple[int, ...]
    ids: list[int]
    text: str


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: those of the model's own settings and the tokenizer's.

    Chat models end a turn with a token that is often named in only one of the two.
    """
    return stop_ids_of(model.generation_config, tokenizer)


def stop_ids_of(settings: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The same of a model that is not loaded."""
    configured = settings.eos_token_id if settings else None
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
    num_done = 0
    with packed_linears(model):
        for batch in batches_by_length([len(ids) for ids in prompts], batch_rows=batch_rows):
            rows = generate_batch(model, [prompts[index] for index in batch], config=greedy)
            for index, row in zip(batch, rows, strict=True):
                continuations[index] = row
            num_done += len(batch)
            if on_batch:
                on_batch(num_done, len(prompts))
    return continuations


def batches_by_length(lengths: Sequence[int], *, batch_rows: int) -> list[list[int]]:
    """Row numbers, batch after batch: rows of similar length share one, shorter ones first."""
    batches: list[list[int]] = []
    padding = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches:
            padding += (lengths[row] - lengths[batches[-1][-1]]) * len(batches[-1])
        if not batches or len(batches[-1]) == batch_rows or padding > MAX_PADDING_TOKENS:
            batches.append([])
            padding = 0
        batches[-1].append(row)
    return batches


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
    answers = generate_answers(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_rows=batch_rows,
        on_batch=on_batch,
    )
    return [answer.text for answer in answers]


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_rows: int = BATCH_ROWS,
    on_batch: OnBatch | None = None,
) -> list[Answer]:
    """The greedy answer to each rendered prompt."""
    # The template has rendered the special tokens already; the tokenizer would add them again.
    prompt_ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    continuations = generate_ids(
        model,
        prompt_ids,
        stops=stop_ids(model, tokenizer),
        pad_id=pad_id_of(tokenizer),
        max_new_tokens=max_new_tokens,
        batch_rows=batch_rows,
        on_batch=on_batch,
    )
    return [
        Answer(tuple(asked), ids, tokenizer.decode(ids, skip_special_tokens=True).strip())
        for asked, ids in zip(prompt_ids, continuations, strict=True)
    ]


def generate_batch(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, config: GenerationConfig
) -> list[list[int]]:
    """New tokens of each prompt, sampled or not as `config` says, with the one that ended it."""
    width = max(len(ids) for ids in prompts)
    cache = _divisible_cache(model)
    begin = _cache_shared_begin(model, prompts, cache=cache)
    # NB: on the left of what no other row has. A decoder goes on behind the last column, which must
    # be the prompt's last token; `generate` counts positions from the mask, so that padding shifts
    # none of them.
    ids = [
        [*row[:begin], *[config.pad_token_id] * (width - len(row)), *row[begin:]] for row in prompts
    ]
    mask = [[1] * begin + [0] * (width - len(row)) + [1] * (len(row) - begin) for row in prompts]
    running = _Running(
        rows=list(range(len(prompts))),
        ids=torch.tensor(ids, device=model.device),
        mask=torch.tensor(mask, device=model.device),
        cache=cache,
    )
    continuations: list[list[int]] = [[] for _ in prompts]
    left, stops = config.max_new_tokens, config.eos_token_id or ()
    while left and running.rows:
        length = left if running.cache is None else min(left, BLOCK_TOKENS)
        going_on = []
        for place, new in enumerate(running.extend(model, config=config, num_tokens=length)):
            end = next((at for at, token in enumerate(new) if token in stops), None)
            if end is None:
                going_on.append(place)
            continuations[running.rows[place]] += new if end is None else new[: end + 1]
        # A block is shorter than asked for where every row has ended: then none is left.
        left -= length
        running.keep(going_on)
    return continuations


@dataclass(slots=True)
class _Running:
    """The rows of a batch that have not ended, by their numbers; tensors are (rows, columns)."""

    rows: list[int]
    ids: torch.Tensor
    mask: torch.Tensor
    cache: DynamicCache | None

    def extend(
        self, model: PreTrainedModel, *, config: GenerationConfig, num_tokens: int
    ) -> list[list[int]]:
        """The next tokens of every row."""
        width = self.ids.shape[1]
        block = copy(config)
        block.max_new_tokens = num_tokens
        with torch.inference_mode():
            # NB: the cache keeps all but the last token, which `generate` computes first: a block
            # goes on exactly where the one before has ended.
            self.ids = model.generate(
                input_ids=self.ids,
                attention_mask=self.mask,
                generation_config=block,
                past_key_values=self.cache,
            )
        self.mask = F.pad(self.mask, (0, self.ids.shape[1] - width), value=1)
        new: list[list[int]] = self.ids[:, width:].tolist()
        return new

    def keep(self, places: Sequence[int]) -> None:
        """Compute none but these rows from now on."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if self.cache is None or not places:
            return
        index = torch.tensor(places, device=self.ids.device)
        self.ids, self.mask = self.ids[index], self.mask[index]
        self.cache.batch_select_indices(index)


def _cache_shared_begin(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, cache: DynamicCache | None
) -> int:
    """Compute the tokens that all prompts begin with once, for all rows; their number.

    Templates begin with the same system prompt: of short prompts that is the greater part.
    """
    # NB: a window counts columns, padding included, so that none may lie between two tokens.
    if cache is None or len(prompts) == 1 or any(layer.is_sliding for layer in cache.layers):
        return 0
    # Each row computes one token at least: that is where its logits come from.
    columns = zip(*(ids[:-1] for ids in prompts), strict=False)
    begin = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    if begin:
        with torch.inference_mode():
            shared = torch.tensor([list(prompts[0][:begin])], device=model.device)
            model(input_ids=shared, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(prompts))
    return begin


def _divisible_cache(model: PreTrainedModel) -> DynamicCache | None:
    """An empty cache from which rows can be dropped; None if the model has one of another kind.

    Those of state-space layers keep a state for each row that transformers cannot select from.
    """
    cache = DynamicCache(config=model.config)
    can_drop = all(hasattr(layer, "batch_select_indices") for layer in cache.layers)
    # NB: a private name, and no public one: models with caches of their own refuse this one.
    is_usual = model._supports_default_dynamic_cache()  # noqa: SLF001
    return cache if can_drop and is_usual else None
