"""A labelled task for studies: which of 26 classes a gloss of WordNet's nouns belongs to.

Debian's package wordnet-base; the classes are its lexicographer files (Fellbaum 1998).
"""

import json
import random
from pathlib import Path
from typing import Final

from simulated_traffic import NOUNS

# The lexicographer files of nouns, by their numbers from 3 on.
_NAMES: Final = (
    "tops act animal artifact attribute body cognition communication event feeling food group "
    "location motive object person phenomenon plant possession process quantity relation shape "
    "state substance time"
)
CLASSES: Final = dict(enumerate(_NAMES.split(), start=3))
_WORDS: Final = range(4, 13)
NUM_HELD_OUT: Final = 120
# What each seed of a study draws from, and how many of them have one class.
_NUM_GLOSSES: Final = 1700
_MOST_OF_A_CLASS: Final = 70

# A gloss, and its class.
Turns = list[str]


def rows(num_rows: int, *, most_of_a_class: int | None = None) -> list[dict[str, str]]:
    """Short glosses with their classes, drawn evenly; always the same ones.

    Two classes have some thirty glosses: more than about 1,000 rows need more of the others.

    Raises:
        FileNotFoundError: WordNet is not there; `apt-get install wordnet-base`.
    """
    by_class: dict[str, list[str]] = {name: [] for name in CLASSES.values()}
    for line in NOUNS.read_text(encoding="utf-8").splitlines():
        if line.startswith(" ") or " | " not in line:
            continue
        fields, _, gloss = line.partition(" | ")
        definition = gloss.partition(";")[0].strip()
        if len(definition.split()) in _WORDS:
            by_class[CLASSES[int(fields.split()[1])]].append(definition)
    chance = random.Random(16)
    most = most_of_a_class or num_rows // len(by_class) + 1
    drawn = [
        {"prompt": f"Class of: {gloss}", "completion": name}
        for name, glosses in by_class.items()
        for gloss in chance.sample(glosses, min(len(glosses), most))
    ]
    return chance.sample(drawn, num_rows)


def split(*, size: int, seed: int) -> tuple[list[Turns], list[Turns]]:
    """Glosses to train on, drawn by the seed, and to hold out, always the same.

    The rows of a smaller size are among those of a larger one.
    """
    all_rows = [
        [row["prompt"].removeprefix("Class of: "), row["completion"]]
        for row in rows(_NUM_GLOSSES, most_of_a_class=_MOST_OF_A_CLASS)
    ]
    held_out, rest = all_rows[:NUM_HELD_OUT], all_rows[NUM_HELD_OUT:]
    return random.Random(seed).sample(rest, len(rest))[:size], held_out


def write_chats(path: Path, turns: list[Turns]) -> str:
    """Write them as conversations; return the URI."""
    lines = (
        {
            "messages": [
                {"role": "system", "content": "Name the class."},
                {"role": "user", "content": asked},
                {"role": "assistant", "content": answer},
            ]
        }
        for asked, answer in turns
    )
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path.as_uri()
