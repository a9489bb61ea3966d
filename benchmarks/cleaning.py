"""Precision and recall of every rule of cleaning, on faults planted in 2,000 real conversations.

`planted_faults.py` says which. Mojibake is mended by ftfy as well, and datatrove's rules look for
what they know, each in an environment of its own. Its filter of languages needs a model that no
package has, and is left out. `swapped_answers.py` has the rule that asks the base model.
"""

import json
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from commands import ROOT, environment_with, run_script
from planted_faults import Planted, Turns, as_row, planted
from swapped_answers import measure_swapped

SEEDS: Final = (1, 2, 3)
FTFY: Final = "ftfy==6.3.1"
# datatrove's rules import what its extras name; of these only what the English rules need.
DATATROVE: Final = (
    "datatrove==0.10.1",
    FTFY,
    "nltk==3.10.4",
    "regex",
    "spacy==3.8.18",
    "tokenizers",
    "xxhash==3.6.0",
)
_MEND: Final = """
import ftfy, json, sys
told = [[ftfy.fix_encoding(turn) for turn in turns] for turns in json.load(open(sys.argv[1]))]
print(json.dumps(told))
"""


def measure(home: Path) -> dict[str, Any]:
    """By rule: precision and recall over all seeds, and how much of the mojibake is as before."""
    folder = home / "cleaning"
    runs = [_run(home, folder / str(seed), seed=seed) for seed in SEEDS]
    return {
        "seeds": SEEDS,
        "peers": DATATROVE,
        **{part: _means(runs, part) for part in ("rules", "datatrove", "leftOut")},
        "mended": _mean([run["mended"] for run in runs]),
        "unlikelyAnswers": measure_swapped(home),
    }


def _run(home: Path, folder: Path, *, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    data = planted(home / "packages", seed=seed)
    _write(data.rows, folder / "rows.jsonl")
    _write(data.held_out, folder / "held-out.jsonl")
    damaged = [data.rows[place] for place in sorted(data.damaged)]
    (folder / "damaged.json").write_text(json.dumps(damaged), encoding="utf-8")
    told = run_script("trainer", "cleaning_run.py", folder)
    before = [data.damaged[place] for place in sorted(data.damaged)]
    by_ftfy = _mended_by_ftfy(home / "ftfy", folder / "damaged.json")
    peer = _by_datatrove(home / "datatrove", folder)
    return {
        "rules": _judged(data, _found_by_us(data, told["findings"])),
        "datatrove": _judged(data, peer["found"]),
        "leftOut": _shares_left_out(data, peer["leftOut"]),
        "mended": {
            "ours": _same(told["mended"], before),
            "ftfy": _same(by_ftfy, before),
            "datatrove": _same(peer["mended"], before),
        },
    }


def _found_by_us(data: Planted, findings: list[dict[str, Any]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {rule: set() for rule in data.places}
    for finding in findings:
        if finding["split"] == "train" and finding["rule"] in found:
            found[finding["rule"]].add(int(finding["row"].rpartition(":")[2]) - 1)
    return found


def _judged(data: Planted, found: Mapping[str, Iterable[int]]) -> dict[str, dict[str, float]]:
    """Precision and recall of what was found by rule; "RULE, VARIANT" is a variant of a rule."""
    judged = {}
    for name, of_rule in found.items():
        rule, suspects = name.partition(",")[0], set(of_rule)
        if rule == "nearDuplicates":
            # Rows with a swapped answer are copies as well, whichever rule they are planted for.
            suspects -= data.places["conflictingAnswers"]
        right = len(suspects & data.places[rule])
        judged[name] = {
            "precision": right / max(1, len(suspects)),
            "recall": right / len(data.places[rule]),
        }
    return judged


def _mended_by_ftfy(environment: Path, file: Path) -> list[Turns]:
    python = environment_with(environment, FTFY)
    command: list[str | Path] = [python, "-c", _MEND, file]
    mended: list[Turns] = json.loads(
        subprocess.run(command, capture_output=True, check=True).stdout
    )
    return mended


def _by_datatrove(environment: Path, folder: Path) -> dict[str, Any]:
    python = environment_with(environment, *DATATROVE)
    script = ROOT / "benchmarks/cleaning_datatrove.py"
    # Its four steps remember which of them are done, in the folder.
    for done in folder.glob("minhash*"):
        shutil.rmtree(done)
    told = subprocess.run([python, script, folder], stdout=subprocess.PIPE, check=True).stdout
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found


def _shares_left_out(data: Planted, left_out: dict[str, list[int]]) -> dict[str, dict[str, float]]:
    """Of rows with a planted fault and of those without, what rules for pages leave out."""
    faulty = set().union(*data.places.values())
    sound = set(range(len(data.rows))) - faulty
    return {
        rule: {
            "ofFaulty": len(faulty.intersection(places)) / len(faulty),
            "ofOthers": len(sound.intersection(places)) / len(sound),
        }
        for rule, places in left_out.items()
    }


def _same(mended: list[Turns], before: list[Turns]) -> float:
    return sum(one == other for one, other in zip(mended, before, strict=True)) / len(before)


def _means(runs: list[dict[str, Any]], part: str) -> dict[str, dict[str, float]]:
    return {name: _mean([run[part][name] for run in runs]) for name in runs[0][part]}


def _mean(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(run[name] for run in runs), 3) for name in runs[0]}


def _write(rows: list[Turns], path: Path) -> None:
    path.write_text("".join(f"{json.dumps(as_row(turns))}\n" for turns in rows), encoding="utf-8")
