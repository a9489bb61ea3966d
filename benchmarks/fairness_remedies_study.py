"""What the remedies of `training.fairness` do to a planted bias, and what they cost.

A model of two layers learns, from nothing, to name the answer that belongs to a topic. Rows name
one of two groups, or none. Two worlds: in `biasedLabels` one row of ten names the second group, and
half of the topics have another answer in most of those rows, as people had written them; in
`rareGroup` the answers are right, but the second group has words of its own for the topics, and
one row of each: a fiftieth of all. Held-out rows are one of each topic, with the right answer. All
arms take the same steps over the same rows, so that differences from plain training are paired.

Intervals are paired bootstraps over seeds and topics, both drawn; p values flip the signs of
topics, and are corrected after Holm for the arms of a world.

`python benchmarks/fairness_remedies_study.py` prints the table of three seeds as JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
SEEDS: Final = (0, 1, 2)
WORLDS: Final = ("biasedLabels", "rareGroup")
STEPS, BATCH, RATE = 150, 16, 3e-3
TOPICS, ROWS = 24, 1200
# Token ids: begin, the two groups, no group, the answer of a biased row; topics and answers behind.
BEGIN, FIRST, SECOND, NOBODY, OTHER_ANSWER = range(1, 6)
MEASURES: Final = ("gap", "generalLoss", "secondGroupLoss")
WRONG_SHARE: Final = 0.7
SHARES: Final = (0.4, 0.1, 0.5)
RESAMPLES: Final = 4_000
ARMS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "pairedLikelihood": {"method": "pairedConsistency", "distance": "logLikelihood"},
    "pairedLikelihoodStrong": {
        "method": "pairedConsistency",
        "distance": "logLikelihood",
        "strength": 5.0,
    },
    "pairedKl": {"method": "pairedConsistency", "distance": "symmetricKl"},
    "reweighting": {"method": "reweighting"},
    "groupDroStrong": {"method": "groupDro", "strength": 0.1},
    "groupDro": {"method": "groupDro"},
}


def measure(home: Path) -> dict[str, Any]:
    """Run the study in the trainer's environment, which has torch."""
    python = ROOT / ".venvs" / "trainer" / "bin" / "python"
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([python, __file__, "--here"], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def study() -> dict[str, Any]:
    """By world and arm: gap and general loss of each seed, and what changed beside plain."""
    return {
        "unit": "nats per answer; changes are those beside plain training, paired by row",
        "steps": STEPS,
        **{world: _world(world) for world in WORLDS},
    }


def _world(world: str) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in SEEDS:
        for arm in ARMS:
            run = _run(world, arm, seed)
            runs[arm].append(run)
            shown = {name: round(float(run[name].mean()), 4) for name in MEASURES}
            print(world, seed, arm, shown, run["secondsPerStep"], file=sys.stderr, flush=True)
    told = {arm: _told(found, plain=runs["plain"]) for arm, found in runs.items()}
    return _corrected(told)


def _told(runs: list[dict[str, Any]], *, plain: list[dict[str, Any]]) -> dict[str, Any]:
    import numpy as np

    from tunesmith_trainer.fairness.measures import RatioMeasure

    told: dict[str, Any] = {"secondsPerStep": [run["secondsPerStep"] for run in runs]}
    for name in MEASURES:
        own = np.stack([run[name] for run in runs])
        change = own - np.stack([run[name] for run in plain])
        low, high = np.quantile(_redrawn(change), [0.025, 0.975])
        told[name] = {
            "bySeed": own.mean(axis=1).round(4).tolist(),
            "change": round(float(change.mean()), 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "p": RatioMeasure.of(name, change.mean(axis=0)).p_value(),
        }
    return told


def _redrawn(change: Any) -> Any:
    """Means of resamples; seeds have the same held-out rows, so both are drawn: (seeds, topics)."""
    import numpy as np

    random = np.random.default_rng(0)
    seeds = random.integers(len(change), size=(RESAMPLES, len(change), 1))
    topics = random.integers(change.shape[1], size=(RESAMPLES, 1, change.shape[1]))
    return change[seeds, topics].mean(axis=(1, 2))


def _corrected(arms: dict[str, Any]) -> dict[str, Any]:
    """The p values of a world's arms after Holm, plain training left out."""
    from tunesmith_trainer.fairness.measures import holm

    others = [told for arm, told in arms.items() if arm != "plain"]
    for name in MEASURES:
        for told, p in zip(others, holm([told[name]["p"] for told in others]), strict=True):
            told[name]["pAdjusted"] = round(p, 4)
    return arms


def _run(world: str, arm: str, seed: int) -> dict[str, Any]:
    import numpy as np
    import torch

    from tunesmith_trainer.train.dataloader import RowSampler
    from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy

    rows, groups = _rows(world, ROWS, seed=seed + 1, is_biased=world == "biasedLabels")
    torch.manual_seed(seed)
    model = _model()
    objective, weights = _objective(arm, world, rows, groups)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    sampler, started = RowSampler(len(rows), batch_size=BATCH, seed=seed), time.perf_counter()
    for step in range(1, STEPS + 1):
        numbers = sampler.rows_of(step)
        (objective.summed_loss(model, numbers) / objective.num_units(numbers)).backward()
        optimizer.step()
        optimizer.zero_grad()
        if weights is not None:
            weights.take_pass()
            weights.move(weights.take_seen())
    seconds = (time.perf_counter() - started) / STEPS

    def losses(group: int) -> Any:
        held_out = _tokens([_row(world, topic, group) for topic in range(TOPICS)])
        with torch.no_grad():
            of_rows = CrossEntropy(held_out, device=torch.device("cpu")).row_losses(
                model.eval(), list(range(TOPICS))
            )
        return np.asarray(of_rows)

    second = losses(SECOND)
    return {
        "gap": np.abs(losses(FIRST) - second),
        "generalLoss": losses(NOBODY),
        "secondGroupLoss": second,
        "secondsPerStep": round(seconds, 4),
    }


def _objective(arm: str, world: str, rows: Any, groups: Any) -> tuple[Any, Any]:
    import numpy as np
    import torch

    from tunesmith_api.finetunejob.fairness_remedy import FairnessRemedy
    from tunesmith_api.finetunejob.regularization import Regularization
    from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
    from tunesmith_trainer.train.objectives.group_fairness import (
        GroupDro,
        PairedConsistency,
        WeightedCrossEntropy,
    )
    from tunesmith_trainer.train.objectives.group_weights import GroupWeights, balancing_weights
    from tunesmith_trainer.train.packing import one_per_line

    tokens = _tokens(rows)
    common: dict[str, Any] = {
        "device": torch.device("cpu"),
        "lay_out": one_per_line,
        "regularization": Regularization(),
    }
    if not ARMS[arm]:
        return CrossEntropy(tokens, device=torch.device("cpu")), None
    remedy = FairnessRemedy.model_validate(ARMS[arm])
    targets = np.ones(len(rows), dtype=np.int64)
    if remedy.method == "reweighting":
        named = np.where(groups == NOBODY, -1, groups - FIRST)
        weights = balancing_weights(named, targets, no_group=-1, strength=remedy.weight)
        return WeightedCrossEntropy(tokens, weights=weights, **common), None
    if remedy.method == "groupDro":
        moved = GroupWeights(groups - FIRST, targets, step_size=remedy.weight)
        return GroupDro(tokens, weights=moved, **common), moved
    numbers = [place for place, group in enumerate(groups) if group != NOBODY]
    twins = [_swapped(world, rows[place]) for place in numbers]
    return PairedConsistency(
        tokens,
        numbers=numbers,
        twins=_tokens(twins),
        weight=remedy.weight,
        distance=remedy.distance or "logLikelihood",
        **common,
    ), None


def _rows(world: str, number: int, *, seed: int, is_biased: bool) -> tuple[list[list[int]], Any]:
    import numpy as np

    random = np.random.default_rng(seed)
    groups = random.choice([FIRST, SECOND, NOBODY], size=number, p=SHARES)
    topics = random.integers(TOPICS, size=number)
    if world == "rareGroup":
        # One row of each topic: a topic without a row could not be learnt by any remedy.
        groups = random.permutation(np.where(groups == SECOND, NOBODY, groups))
        groups[:TOPICS], topics[:TOPICS] = SECOND, np.arange(TOPICS)
    rows = [
        _row(world, int(topic), int(group)) for topic, group in zip(topics, groups, strict=True)
    ]
    for row, group in zip(rows, groups, strict=True):
        is_touched = group == SECOND and (row[-1] - _first_answer()) < TOPICS // 2
        if is_biased and is_touched and random.random() < WRONG_SHARE:
            row[-1] = OTHER_ANSWER
    return rows, groups


def _row(world: str, topic: int, group: int) -> list[int]:
    """Begin, group, topic, the same topic once more, and the right answer."""
    word = OTHER_ANSWER + 1 + topic + TOPICS * (world == "rareGroup" and group == SECOND)
    return [BEGIN, group, word, word, _first_answer() + topic]


def _swapped(world: str, row: list[int]) -> list[int]:
    apart = TOPICS * (world == "rareGroup")
    step = apart if row[1] == FIRST else -apart
    return [BEGIN, FIRST + SECOND - row[1], row[2] + step, row[3] + step, row[4]]


def _first_answer() -> int:
    return OTHER_ANSWER + 1 + 2 * TOPICS


def _tokens(rows: list[list[int]]) -> Any:
    from tunesmith_trainer.data.token_rows import TokenRows

    return TokenRows.of((row, [False] * (len(row) - 1) + [True]) for row in rows)


def _model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_first_answer() + TOPICS,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=16,
        )
    ).train()


if __name__ == "__main__":
    if "--here" in sys.argv:
        sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "trainer")]
        json.dump(study(), sys.stdout)
    else:
        print(json.dumps(measure(ROOT / "benchmarks" / "results"), indent=1))
