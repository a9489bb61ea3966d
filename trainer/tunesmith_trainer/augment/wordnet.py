"""WordNet's database as files: which words mean the same, and how often a word means that.

The format is that of the manual pages wndb(5WN) and cntlist(5WN). Only what `synonyms` needs is
read: index and data of the four parts of speech, their exceptions, and the counts of a corpus that
was tagged by hand.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

PartOfSpeech = Literal["noun", "verb", "adj", "adv"]
PARTS: Final[tuple[PartOfSpeech, ...]] = ("noun", "verb", "adj", "adv")
# Of the keys of senses; 5 are adjectives that stand near another.
_TYPES: Final[Mapping[str, PartOfSpeech]] = {
    "1": "noun",
    "2": "verb",
    "3": "adj",
    "4": "adv",
    "5": "adj",
}
_PACKAGE: Final = "wordnet-base"
# The field that names the folder for augmentation.
SYNONYMS: Final = "dataset.augmentation.synonyms"

_Counts = dict[tuple[str, PartOfSpeech], int]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of speech.

    `senses`: places of synsets in `data`, by lemma, the most frequent first. `lemmas`: of irregular
    forms. `irregular`: the other way round.
    """

    senses: Mapping[str, tuple[int, ...]]
    lemmas: Mapping[str, tuple[str, ...]]
    irregular: Mapping[str, tuple[str, ...]]
    data: bytes


class WordNet:
    """The database in a folder."""

    def __init__(self, folder: Path) -> None:
        self._parts = {part: _read_part(folder, part) for part in PARTS}
        self._totals, self._firsts = _read_counts(folder)

    def is_lemma(self, word: str, part: PartOfSpeech) -> bool:
        """Whether the word, uninflected, is of this part of speech."""
        return word in self._parts[part].senses

    def frequency(self, lemma: str, part: PartOfSpeech) -> int:
        """How often the corpus has the lemma as this part of speech."""
        return self._totals.get((lemma, part), 0)

    def sense_share(self, lemma: str, part: PartOfSpeech) -> float:
        """The part of these that have the most frequent sense; 1 of a lemma with one sense."""
        if len(self._parts[part].senses[lemma]) == 1:
            return 1.0
        total = self.frequency(lemma, part)
        return self._firsts.get((lemma, part), 0) / total if total else 0.0

    def lemmas_of(self, form: str, part: PartOfSpeech) -> tuple[str, ...]:
        """The lemmas of an irregular form, such as mouse of mice."""
        return self._parts[part].lemmas.get(form, ())

    def irregular_forms(self, lemma: str, part: PartOfSpeech) -> tuple[str, ...]:
        """The irregular forms of a lemma, such as mice of mouse."""
        return self._parts[part].irregular.get(lemma, ())

    def synonyms(self, lemma: str, part: PartOfSpeech) -> tuple[str, ...]:
        """Single words of the lemma's first synset that mean that first of all themselves.

        Without the second half, dog would be a frump and car an automotive of the railways.
        """
        senses = self._parts[part].senses
        first = senses[lemma][0]
        return tuple(
            word
            for word in self._words(first, part)
            if word != lemma and word.isalpha() and word.islower() and senses[word][0] == first
        )

    def _words(self, offset: int, part: PartOfSpeech) -> list[str]:
        data = self._parts[part].data
        fields = data[offset : data.index(b"\n", offset)].decode("utf-8").split(" ")
        count = int(fields[3], 16)
        # Of some adjectives with where they may stand: galore(ip).
        return [fields[4 + 2 * place].partition("(")[0] for place in range(count)]


@lru_cache(maxsize=1)
def load_wordnet(folder: Path, *, field: str = SYNONYMS) -> WordNet:
    """Read the database; `field` is the path that names its folder, for errors.

    Raises:
        BadInputError: it is not there, or is none.
    """
    try:
        return WordNet(folder)
    except FileNotFoundError as error:
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            f"{field}.wordnet: given {folder}, where {error.filename} is "
            f"not; install Debian's package {_PACKAGE} (apt-get install {_PACKAGE}), or name the "
            "folder of WordNet's database",
        ) from error
    except (ValueError, LookupError) as error:
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            f"{field}.wordnet: what lies in {folder} is no database of "
            f"WordNet 3; install Debian's package {_PACKAGE}",
        ) from error


def _read_part(folder: Path, part: PartOfSpeech) -> _Part:
    lemmas: dict[str, tuple[str, ...]] = {}
    irregular: dict[str, list[str]] = defaultdict(list)
    for line in (folder / f"{part}.exc").read_text(encoding="utf-8").splitlines():
        form, *bases = line.split()
        lemmas[form] = tuple(bases)
        for base in bases:
            irregular[base].append(form)
    return _Part(
        senses=_read_index(folder / f"index.{part}"),
        lemmas=lemmas,
        irregular={base: tuple(forms) for base, forms in irregular.items()},
        data=(folder / f"data.{part}").read_bytes(),
    )


def _read_index(path: Path) -> dict[str, tuple[int, ...]]:
    senses = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        # The licence, at the top, is indented.
        if line.startswith(" "):
            continue
        fields = line.split()
        senses[fields[0]] = tuple(map(int, fields[-int(fields[2]) :]))
    return senses


def _read_counts(folder: Path) -> tuple[_Counts, _Counts]:
    """How often the corpus has a lemma as a part of speech, and how often in its first sense."""
    totals: _Counts = defaultdict(int)
    firsts: _Counts = defaultdict(int)
    for line in (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines():
        key, sense, count = line.split()
        lemma, _, place = key.partition("%")
        part = _TYPES.get(place[:1])
        if part is None:
            continue
        totals[lemma, part] += int(count)
        if sense == "1":
            firsts[lemma, part] += int(count)
    return totals, firsts
