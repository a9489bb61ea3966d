"""The search for near-duplicates among 100,000 and 1,000,000 rows, beside datasketch and rensa.

A row is two turns of real conversations, drawn at random, so that there are as many as one likes
and hardly two alike; one in twenty is a copy of an earlier row in which a tenth of the words is
another one, or gone, or followed by one more.
"""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from chitchat import conversations
from commands import ROOT, environment_with
from planted_faults import edited

SEED: Final = 19
SIZES: Final = {"100k": 100_000, "1M": 1_000_000}
PEERS: Final = {"datasketch": "datasketch==2.0.0", "rensa": "rensa==0.5.0"}
# A peer that took longer for a tenth of the rows is not waited for.
_LONGEST_S: Final = 60.0
_COPIES: Final = 0.05
_LEAST_WORDS: Final = 6


def measure(home: Path) -> dict[str, Any]:
    """By number of rows and program: seconds, memory, and the part of the copies that is found."""
    folder = home / "near-duplicates"
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {"ours": ROOT / ".venvs/trainer/bin/python"}
    pythons |= dict.fromkeys(PEERS, environment_with(folder / "peers", *PEERS.values()))
    results: dict[str, Any] = {"threshold": 0.7, "permutations": 128, "peers": list(PEERS.values())}
    for name, number in SIZES.items():
        file, copies = _write(home / "packages", folder / name, number)
        results[name] = {}
        for program, python in pythons.items():
            before = results.get("100k", {}).get(program, {}).get("seconds", 0.0)
            if before > _LONGEST_S:
                continue
            results[name][program] = _timed(python, program, file, copies)
            print(f"bench: {name}: {program}: {results[name][program]}", file=sys.stderr)
    return results


def _timed(python: Path, program: str, file: Path, copies: Path) -> dict[str, Any]:
    command: list[str | Path] = [
        python,
        ROOT / "benchmarks/near_duplicates_run.py",
        program,
        file,
        copies,
    ]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout
    timed: dict[str, Any] = json.loads(told)
    return timed


def _write(packages: Path, folder: Path, number: int) -> tuple[Path, Path]:
    """The texts in one file, and the places of the copies."""
    folder.mkdir(exist_ok=True)
    rng = random.Random(SEED)
    turns = [turn for spoken in conversations(packages) for turn in spoken]
    turns = [turn for turn in turns if len(turn.split()) >= _LEAST_WORDS]
    words = [word for turn in turns[:5000] for word in turn.split()]
    texts: list[str] = []
    copies: list[int] = []
    for place in range(number):
        if place and rng.random() < _COPIES:
            texts.append(edited([texts[rng.randrange(place)]], words, rng)[0])
            copies.append(place)
        else:
            texts.append(f"{rng.choice(turns)}\n{rng.choice(turns)}")
    file, places = folder / "texts", folder / "copies.json"
    file.write_text("\0".join(texts), encoding="utf-8")
    places.write_text(json.dumps(copies), encoding="utf-8")
    return file, places
