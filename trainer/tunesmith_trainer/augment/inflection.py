"""English inflection over WordNet: what form a word is, and the same form of another word.

WordNet's rules of detachment (morphy(7WN)) and their inverse. Its lists of exceptions hold what the
rules cannot tell, doubled consonants among them. An irregular past or participle is recognised, and
never made: the lists do not say which of the two a form is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tunesmith_trainer.augment.wordnet import PARTS, PartOfSpeech, WordNet

Ending = Literal["", "s", "ed", "ing", "irregular"]

# Of each part of speech what is taken off, what is put there, and the form that it was.
_DETACHED: Final[Mapping[PartOfSpeech, tuple[tuple[str, str, Ending], ...]]] = {
    "noun": (
        ("s", "", "s"),
        ("ses", "s", "s"),
        ("xes", "x", "s"),
        ("zes", "z", "s"),
        ("ches", "ch", "s"),
        ("shes", "sh", "s"),
        ("ies", "y", "s"),
    ),
    "verb": (
        ("s", "", "s"),
        ("ies", "y", "s"),
        ("es", "e", "s"),
        ("es", "", "s"),
        ("ed", "e", "ed"),
        ("ed", "", "ed"),
        ("ing", "e", "ing"),
        ("ing", "", "ing"),
    ),
    "adj": (
        ("er", "", "irregular"),
        ("est", "", "irregular"),
        ("er", "e", "irregular"),
        ("est", "e", "irregular"),
    ),
    "adv": (),
}
_SIBILANTS: Final = ("s", "x", "z", "ch", "sh")
_VOWELS: Final = "aeiou"


@dataclass(frozen=True, slots=True)
class Form:
    """A word as a form of a lemma."""

    lemma: str
    part: PartOfSpeech
    ending: Ending


def forms_of(word: str, wordnet: WordNet) -> list[Form]:
    """Everything that a word in small letters may be."""
    return list(dict.fromkeys(form for part in PARTS for form in _forms_as(word, part, wordnet)))


def inflected(lemma: str, like: Form, wordnet: WordNet) -> str | None:
    """The lemma in the form of another word; None where that cannot be told."""
    listed = wordnet.irregular_forms(lemma, like.part)
    match like.ending:
        case "":
            return lemma
        case "irregular":
            return None
        case "s" if like.part == "noun":
            # What ends in s is a plural already, as athletics is, or has its own in the list.
            return _only(listed) if listed or lemma.endswith("s") else _with_s(lemma)
        case "s":
            return _with_s(lemma)
        case ending:
            return _only(_verb_forms(lemma, ending, listed))


def _verb_forms(lemma: str, ending: Ending, listed: Sequence[str]) -> Sequence[str]:
    of_ending = [form for form in listed if form.endswith(ending)]
    if ending == "ing":
        return of_ending or [_with_ing(lemma)]
    # went, thought: the past of this one is another word.
    is_irregular = any(not form.endswith(("ed", "ing")) for form in listed)
    return of_ending or ([] if is_irregular else [_with_ed(lemma)])


def _forms_as(word: str, part: PartOfSpeech, wordnet: WordNet) -> Iterator[Form]:
    if wordnet.is_lemma(word, part):
        yield Form(word, part, "")
    irregular = wordnet.lemmas_of(word, part)
    for lemma in irregular:
        if wordnet.is_lemma(lemma, part):
            yield Form(lemma, part, _ending_of(word, part))
    if irregular:
        return
    for suffix, put, ending in _DETACHED[part]:
        lemma = word.removesuffix(suffix) + put
        # Neither "as" nor "his" is a plural.
        if word.endswith(suffix) and len(lemma) > 2 and wordnet.is_lemma(lemma, part):  # noqa: PLR2004
            yield Form(lemma, part, ending)


def _ending_of(word: str, part: PartOfSpeech) -> Ending:
    if part == "noun":
        return "s"
    if part == "verb" and word.endswith("ing"):
        return "ing"
    return "ed" if part == "verb" and word.endswith("ed") else "irregular"


def _only(forms: Sequence[str]) -> str | None:
    return forms[0] if len(forms) == 1 else None


def _with_s(lemma: str) -> str:
    if lemma.endswith(_SIBILANTS):
        return f"{lemma}es"
    return f"{lemma[:-1]}ies" if _ends_in_consonant_y(lemma) else f"{lemma}s"


def _with_ed(lemma: str) -> str:
    if lemma.endswith("e"):
        return f"{lemma}d"
    return f"{lemma[:-1]}ied" if _ends_in_consonant_y(lemma) else f"{lemma}ed"


def _with_ing(lemma: str) -> str:
    if lemma.endswith("ie"):
        return f"{lemma[:-2]}ying"
    is_silent = lemma.endswith("e") and not lemma.endswith(("ee", "oe", "ye"))
    return f"{lemma[:-1]}ing" if is_silent else f"{lemma}ing"


def _ends_in_consonant_y(lemma: str) -> bool:
    return lemma.endswith("y") and lemma[-2:-1] not in _VOWELS
