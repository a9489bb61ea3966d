"""A labelled task for studies: which of 26 classes a gloss of WordNet's nouns belongs to.

Debian's package wordnet-base; the classes are its lexicographer files (Fellbaum 1998).
"""

import random
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
