"""A planted shortcut: held-out accuracy of models that were told the true reason, and of others.

`highlights.py` runs it in the trainer's environment. Of the eight words of a prompt one of sixteen
decides the answer, and one of two others goes with the answer in every training row, and with
neither answer in held-out rows. Highlights name the true word. Models of two layers learn from
nothing, by the objective and the judge of a job. JSON on standard output.
"""

import json
import time
from statistics import fmean, median
from typing import Any, Final

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.log_likelihood import score_rows
from tunesmith_trainer.explain.highlight_share import Occlusions
from tunesmith_trainer.explain.highlighted_rows import HighlightedRow
from tunesmith_trainer.explain.units import Unit
from tunesmith_trainer.fairness.measures import RatioMeasure, intervals
from tunesmith_trainer.train.attribution_objective import marked_rows
from tunesmith_trainer.train.objectives.attribution import HeldToHighlights
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.packing import one_per_line
from tunesmith_trainer.versions import library_versions

PAD, BEGIN, ASK, ANSWERS = 0, 1, 2, (3, 4)
SHORTCUTS: Final = (5, 6)
# Of each answer eight.
REASONS: Final = (tuple(range(7, 15)), tuple(range(15, 23)))
FILLERS: Final = tuple(range(23, 63))
WORDS: Final = 8
TRAIN_ROWS, HELD_OUT_ROWS, STEPS, BATCH = 256, 200, 300, 16
SEEDS: Final = (0, 1, 2)
CPU: Final = torch.device("cpu")
# Name, weight of the penalty, part of the training rows with highlights, and whose words they are.
RUNS: Final = (
    ("plain", 0.0, 0.0, "reason"),
    ("weight 0.1", 0.1, 1.0, "reason"),
    ("weight 1", 1.0, 1.0, "reason"),
    ("weight 10", 10.0, 1.0, "reason"),
    ("weight 1, a quarter of the rows", 1.0, 0.25, "reason"),
    ("weight 1, random words", 1.0, 1.0, "random"),
)
_MEANS: Final = (
    "heldOutAccuracy",
    "heldOutLoss",
    "trainAccuracy",
    "highlightShare",
    "processorSecondsPerStep",
)


def main() -> None:
    """Every run of every seed, and means over seeds."""
    runs = [
        {"run": name, "seed": seed, **_run(seed, weight, part, whose)}
        for seed in SEEDS
        for name, weight, part, whose in RUNS
    ]
    means = [
        {"run": name, **_means([run for run in runs if run["run"] == name])} for name, *_ in RUNS
    ]
    told = {
        "trainRows": TRAIN_ROWS,
        "heldOutRows": HELD_OUT_ROWS,
        "steps": STEPS,
        "batch": BATCH,
        "seeds": SEEDS,
        "versions": library_versions("torch", "transformers"),
        "means": means,
        "runs": runs,
    }
    print(json.dumps(told))


def _run(seed: int, weight: float, part: float, whose: str) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    train = _rows(generator, TRAIN_ROWS, is_shortcut_true=True, whose=whose)
    held_out = _rows(generator, HELD_OUT_ROWS, is_shortcut_true=False, whose="reason")
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=63, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
        )
    )  # fmt: skip
    before = _share(model, held_out)
    seconds = _train(model, train, weight=weight, part=part, seed=seed)
    after = _share(model, held_out)
    own, change = intervals(after, before, Bootstrap())
    right, losses = _answers(model, held_out)
    return {
        "heldOutAccuracy": float(right.mean()),
        "heldOutLoss": float(losses.mean()),
        "trainAccuracy": float(_answers(model, train)[0].mean()),
        "highlightShare": after.value(),
        "interval": [own.low, own.high] if own else None,
        "base": before.value(),
        "change": [change.low, change.high] if change else None,
        "chance": 1 / WORDS,
        "processorSecondsPerStep": median(seconds),
    }


def _rows(
    generator: np.random.Generator, number: int, *, is_shortcut_true: bool, whose: str
) -> list[HighlightedRow]:
    rows = []
    for place in range(number):
        answer = place % 2
        words = generator.choice(FILLERS, size=WORDS)
        reason, shortcut, other = generator.permutation(WORDS)[:3]
        words[reason] = generator.choice(REASONS[answer])
        words[shortcut] = SHORTCUTS[answer if is_shortcut_true else generator.integers(2)]
        units = [Unit((at + 1,), f"w{word}", "user", 1, at + 1) for at, word in enumerate(words)]
        chosen = reason if whose == "reason" else other
        ids = (BEGIN, *map(int, words), ASK, ANSWERS[answer])
        inside = tuple(unit for at, unit in enumerate(units) if at == chosen)
        outside = tuple(unit for at, unit in enumerate(units) if at != chosen)
        rows.append(HighlightedRow(place, ids, WORDS + 2, inside, outside))
    return rows


def _train(
    model: Any, rows: list[HighlightedRow], *, weight: float, part: float, seed: int
) -> list[float]:
    tokens = TokenRows.of(row.answered for row in rows)
    plain: dict[str, Any] = {
        "device": CPU, "lay_out": one_per_line, "regularization": Regularization(),
    }  # fmt: skip
    objective: Any = CrossEntropy(tokens, **plain)
    if weight:
        marked = marked_rows(rows[: int(part * len(rows))])
        objective = HeldToHighlights(tokens, marked=marked, weight=weight, **plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, seconds = np.random.default_rng([seed, 1]), []
    for _ in range(STEPS):
        started = time.process_time()
        batch = [int(row) for row in generator.choice(len(rows), size=BATCH, replace=False)]
        optimizer.zero_grad()
        (objective.summed_loss(model, batch) / objective.num_units(batch)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.process_time() - started)
    return seconds


def _share(model: Any, rows: list[HighlightedRow]) -> RatioMeasure:
    occlusions = Occlusions.of(rows)
    scored = score_rows(model, occlusions.tokens, pad_id=PAD)
    return RatioMeasure.of("highlightShare", occlusions.shares(scored.sums))


def _answers(model: Any, rows: list[HighlightedRow]) -> tuple[Any, Any]:
    """Whether the right answer is the likelier of both, and its loss in nats, row by row."""
    sides = [(*row.ids[:-1], answer) for row in rows for answer in ANSWERS]
    mask = [False] * (WORDS + 2) + [True]
    losses = score_rows(model, TokenRows.of((ids, mask) for ids in sides), pad_id=PAD).sums
    losses = losses.reshape(-1, 2)
    wanted = np.array([ANSWERS.index(row.ids[-1]) for row in rows])
    numbers = np.arange(len(rows))
    return losses.argmin(axis=1) == wanted, losses[numbers, wanted]


def _means(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {name: fmean(run[name] for run in runs) for name in _MEANS}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
