"""What the tuned model says and loses in transformers, in fp32: each format is held against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.export import Export
from tunesmith_trainer.compress.reference_generations import row_prompts
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.generation import generate_ids, pad_id_of
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, chunked_logits, score_rows

NUM_TOKENS = 64
# Nats. Nearer than this the two best tokens are told apart by the order in which an engine adds.
TIE_NATS = 1e-3


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt as text and tokens, and its greedy continuation.

    `margins` are nats between the two best tokens at each place.
    """

    text: str
    prompt: list[int]
    ids: list[int]
    margins: list[float]


@dataclass(frozen=True, slots=True)
class Reference:
    """Answers and losses of the tuned model."""

    answers: list[Answered]
    rows: TokenRows
    losses: RowLosses


@dataclass(frozen=True, slots=True)
class Agreement:
    """Tokens that were compared, those before the first that differs, and whether none does.

    `differs` is also False where the first to differ was a tie.
    """

    agreed: int
    compared: int
    differs: bool


def reference_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
    *,
    settings: Export,
    seed: int,
) -> Reference:
    """Let `model`, which is in fp32, answer and be scored."""
    rows = held_out(prepared.validation, most=settings.rows, seed=seed)
    prompts = [list(ids) for ids in islice(row_prompts(prepared, tokenizer), settings.prompts)]
    pad_id = pad_id_of(tokenizer)
    answers = generate_ids(
        model, prompts, stops=(), pad_id=pad_id, max_new_tokens=NUM_TOKENS, batch_rows=1
    )
    return Reference(
        answers=[
            Answered(tokenizer.decode(prompt), prompt, ids, _margins(model, prompt, ids))
            for prompt, ids in zip(prompts, answers, strict=True)
        ],
        rows=rows,
        losses=score_rows(model, rows, pad_id=pad_id),
    )


def held_out(rows: TokenRows, *, most: int, seed: int) -> TokenRows:
    """So many of the rows, by seed."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(seed).permutation(len(rows))[:most]
    return rows.subset(sorted(int(row) for row in chosen))


def compare(reference: Reference, answers: Sequence[Sequence[int]]) -> Agreement:
    """Hold an engine's answers, one for each prompt, against the reference."""
    agreed, compared, differs = 0, 0, False
    for wanted, said in zip(reference.answers, answers, strict=True):
        # transformers ends where the model does, and an engine goes on.
        pairs = zip(wanted.ids, said, strict=False)
        first = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
        agreed += len(wanted.ids) if first is None else first
        compared += len(wanted.ids)
        differs = differs or (first is not None and wanted.margins[first] > TIE_NATS)
    return Agreement(agreed, compared, differs)


def tokenizes_alike(reference: Reference, tokenized: Sequence[Sequence[int]]) -> bool:
    """Whether an engine makes the same tokens of the prompts' texts, but for one at the begin."""
    return all(
        list(said) in (wanted.prompt, [*said[:1], *wanted.prompt])
        for wanted, said in zip(reference.answers, tokenized, strict=True)
    )


def _margins(model: PreTrainedModel, prompt: Sequence[int], ids: Sequence[int]) -> list[float]:
    whole = torch.tensor([[*prompt, *ids]], device=model.device)
    positions = torch.arange(len(prompt) - 1, whole.shape[1] - 1, device=model.device)
    margins: list[float] = []
    with torch.inference_mode():
        for logits in chunked_logits(model, whole, positions=positions):
            best = logits.topk(2, dim=-1).values
            margins += (best[:, 0] - best[:, 1]).tolist()
    return margins
