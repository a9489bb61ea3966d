"""A model of two layers whose answer hangs on one word, and rows with that word: planted truth.

The word stands anywhere among others. Where it is there, the answer is YES, else NO; the model has
learnt it from rows of any length, so that rows without some of their words are like those.
"""

from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith_trainer.explain.game import Game
from tunesmith_trainer.explain.units import RowText, Unit

PAD, BEGIN, ASK, NO, YES, TRIGGER = range(6)
_FIRST_WORD: Final = 6
_VOCABULARY: Final = 46
_BATCH: Final = 128


@cache
def planted_model(*, seed: int = 0, steps: int = 250) -> Any:
    """Train it; some seconds."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=_VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64,
            pad_token_id=PAD,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        generator = np.random.default_rng(seed)
        for _ in range(steps):
            num_words = int(generator.integers(0, 17))
            ids, answers = _rows(generator, num_words, has_trigger=None)
            loss = F.cross_entropy(model(input_ids=ids).logits[:, -1], answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval().requires_grad_(requires_grad=False)


def planted_game(model: Any, *, num_words: int, seed: int) -> tuple[Game, int]:
    """A row that has the word, each word a unit; and the unit that is the planted one."""
    ids, _ = _rows(np.random.default_rng(seed), num_words, has_trigger=True, num_rows=1)
    row = [*ids[0].tolist(), YES]
    places = tuple((4 * at, 4 * at + 3) for at in range(len(row)))
    text = RowText(tuple(row), len(row) - 1, " ".join(f"w{token:02}" for token in row), places)
    units = [Unit((at,), f"w{row[at]:02}", "user", 1, at) for at in range(1, num_words + 1)]
    return Game(model, text, units, pad_id=PAD), row.index(TRIGGER) - 1


def _rows(
    generator: np.random.Generator,
    num_words: int,
    *,
    has_trigger: bool | None,
    num_rows: int = _BATCH,
) -> tuple[torch.Tensor, torch.Tensor]:
    words: NDArray[np.int64] = generator.integers(
        _FIRST_WORD, _VOCABULARY, size=(num_rows, num_words)
    )
    has = (
        generator.random(num_rows) < 0.5 if has_trigger is None else np.full(num_rows, has_trigger)
    )
    if num_words:
        places = generator.integers(0, num_words, size=num_rows)
        words[np.arange(num_rows), places] = np.where(
            has, TRIGGER, words[np.arange(num_rows), places]
        )
    ends = np.full((num_rows, 1), BEGIN), np.full((num_rows, 1), ASK)
    ids = np.concatenate([ends[0], words, ends[1]], axis=1)
    answers = np.where(has & (num_words > 0), YES, NO)
    return torch.from_numpy(ids), torch.from_numpy(answers)
