"""A real table of hyperparameters: small models on WordNet's glosses, every setting of a grid.

A task is some lexicographer classes of nouns or verbs and a number of rows: hashed words, a hidden
layer, AdamW at a constant rate after warm-up. All rates and decays of a batch size are trained side
by side as one product of matrices; a run passes by its earlier epochs. `search_memory_run.py` asks
the tables, which are computed once into the benchmark's folder.
"""

import itertools
import json
import random
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RATES: Final = tuple(float(f"{rate:.3g}") for rate in np.geomspace(1e-4, 1.0, 9))
DECAYS: Final = (0.0, 0.01, 0.1, 1.0)
BATCHES: Final = (8, 16, 32, 64)
EPOCHS: Final = (1, 2, 4, 8)
AXES: Final[dict[str, tuple[float, ...]]] = {
    "training.optimizer.learningRate": RATES,
    "training.optimizer.weightDecay": DECAYS,
    "training.batch.size": BATCHES,
    "training.epochs": EPOCHS,
}
SEED: Final = 20
_FEATURES, _HIDDEN = 512, 12
_WORDNET: Final = Path("/usr/share/wordnet")
_WORDS: Final = range(3, 16)
_HELD_OUT: Final = 400
_WARMUP: Final = 0.05
Array = NDArray[np.float32]
# Part of speech, number of classes, training rows. Each has other rows than the one before.
TASKS: Final = (
    ("noun", 4, 200), ("noun", 8, 200), ("noun", 8, 600), ("noun", 16, 300), ("noun", 16, 900),
    ("noun", 26, 400), ("noun", 26, 1200), ("verb", 4, 200), ("verb", 8, 300), ("verb", 8, 900),
    ("verb", 15, 400), ("verb", 15, 1200),
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A task in numbers, and the held-out loss of every setting, in the order of `AXES`."""

    name: str
    kind: str
    parameters: int
    rows: int
    tokens: int
    median_row_tokens: float
    target_entropy: float
    base_loss: float
    losses: list[float]


def read_tables(folder: Path) -> list[Table]:
    """All tables; those that are not in the folder yet are computed."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for number, task in enumerate(TASKS):
        path = folder / f"{task[0]}-{task[1]}-{task[2]}.json"
        if not path.exists():
            print(f"bench: table {path.stem}", file=sys.stderr, flush=True)
            path.write_text(json.dumps(asdict(_compute(number))), encoding="utf-8")
        tables.append(Table(**json.loads(path.read_text(encoding="utf-8"))))
    return tables


def settings() -> list[dict[str, float]]:
    """Every setting, in the order of a table's losses."""
    return [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]


def _compute(number: int) -> Table:
    kind, num_classes, num_rows = TASKS[number]
    texts, labels = _rows(kind, num_classes, num_rows + _HELD_OUT, chance=random.Random(number))
    features, classes = _hashed(texts), np.array(labels)
    train = features[:num_rows], classes[:num_rows]
    held_out = features[num_rows:], classes[num_rows:]
    losses: dict[tuple[float, ...], float] = {
        (rate, decay, batch, epoch): loss
        for batch in BATCHES
        for epoch, of_runs in _train(train, held_out, num_classes, batch=batch)
        for (rate, decay), loss in zip(itertools.product(RATES, DECAYS), of_runs, strict=True)
    }
    lengths = [len(text.split()) for text in texts[:num_rows]]
    shares = np.bincount(classes[:num_rows]) / num_rows
    return Table(
        name=f"{kind}-{num_classes}-{num_rows}",
        kind=kind,
        parameters=_FEATURES * _HIDDEN + _HIDDEN * num_classes,
        rows=num_rows,
        tokens=sum(lengths),
        median_row_tokens=float(median(lengths)),
        target_entropy=float(-np.sum(shares * np.log(shares))),
        base_loss=float(np.log(num_classes)),
        losses=[losses[tuple(each.values())] for each in settings()],
    )


def _rows(
    kind: str, num_classes: int, num_rows: int, *, chance: random.Random
) -> tuple[list[str], list[int]]:
    """Glosses of some classes, drawn evenly."""
    by_class: dict[int, list[str]] = {}
    for line in (_WORDNET / f"data.{kind}").read_text(encoding="utf-8").splitlines():
        if line.startswith(" ") or " | " not in line:
            continue
        fields, _, gloss = line.partition(" | ")
        definition = gloss.partition(";")[0].strip()
        if len(definition.split()) in _WORDS:
            by_class.setdefault(int(fields.split()[1]), []).append(definition)
    chosen = chance.sample(sorted(by_class), num_classes)
    each = num_rows // num_classes + 1
    drawn = [
        (gloss, place)
        for place, number in enumerate(chosen)
        for gloss in chance.choices(by_class[number], k=each)
    ]
    drawn = chance.sample(drawn, num_rows)
    return [gloss for gloss, _ in drawn], [label for _, label in drawn]


def _hashed(texts: list[str]) -> Array:
    features = np.zeros((len(texts), _FEATURES), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            features[row, zlib.crc32(word.encode()) % _FEATURES] += 1
    norms: Array = np.linalg.norm(features, axis=1, keepdims=True).clip(1e-6)
    return features / norms


def _train(
    train: tuple[Array, Any], held_out: tuple[Array, Any], num_classes: int, *, batch: int
) -> Iterator[tuple[int, list[float]]]:
    """Held-out losses of every rate and decay after each of the epochs that a table has."""
    rng = np.random.default_rng(SEED)
    runs = list(itertools.product(RATES, DECAYS))
    rates = np.array([rate for rate, _ in runs], dtype=np.float32)[:, None, None]
    decays = np.array([decay for _, decay in runs], dtype=np.float32)[:, None, None]
    weights = [
        np.repeat(rng.normal(0, 0.1, (1, *shape)).astype(np.float32), len(runs), axis=0)
        for shape in ((_FEATURES, _HIDDEN), (_HIDDEN, num_classes))
    ]
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in weights]
    inputs, classes = train
    steps_each = max(len(classes) // batch, 1)
    warmup, step = max(1.0, _WARMUP * steps_each * EPOCHS[-1]), 0
    for epoch in range(1, EPOCHS[-1] + 1):
        order = rng.permutation(len(classes))
        for first in range(0, steps_each * batch, batch):
            rows = order[first : first + batch]
            step += 1
            rate = rates * min(1.0, step / warmup)
            gradients = _gradients(weights, inputs[rows], classes[rows])
            for weight, gradient, moment in zip(weights, gradients, moments, strict=True):
                _adamw(weight, gradient, moment, rate=rate, decay=decays, step=step)
        if epoch in EPOCHS:
            yield epoch, _losses(weights, *held_out)


def _forward(weights: list[Array], inputs: Array) -> tuple[Array, Array]:
    hidden = np.maximum(inputs @ weights[0], 0)
    logits = hidden @ weights[1]
    logits = logits - logits.max(axis=2, keepdims=True)
    odds = np.exp(logits)
    return hidden, odds / odds.sum(axis=2, keepdims=True)


def _gradients(weights: list[Array], inputs: Array, classes: Any) -> tuple[Array, Array]:
    hidden, wrong = _forward(weights, inputs)
    wrong[:, np.arange(len(classes)), classes] -= 1
    wrong /= len(classes)
    back = (wrong @ weights[1].transpose(0, 2, 1)) * (hidden > 0)
    return inputs.T @ back, hidden.transpose(0, 2, 1) @ wrong


def _adamw(
    weight: Array,
    gradient: Array,
    moment: tuple[Array, Array],
    *,
    rate: Array,
    decay: Array,
    step: int,
) -> None:
    first, second = moment
    first *= 0.9
    first += 0.1 * gradient
    second *= 0.99
    second += 0.01 * gradient * gradient
    scaled = np.sqrt(second / (1 - 0.99**step)) + 1e-8
    weight *= 1 - rate * decay
    weight -= rate * (first / (1 - 0.9**step)) / scaled


def _losses(weights: list[Array], inputs: Array, classes: Any) -> list[float]:
    _, shares = _forward(weights, inputs)
    of_class = shares[:, np.arange(len(classes)), classes]
    # A run that diverged is very wrong, and still has a loss.
    return [float(x) for x in -np.log(np.nan_to_num(of_class).clip(1e-9)).mean(axis=1)]
