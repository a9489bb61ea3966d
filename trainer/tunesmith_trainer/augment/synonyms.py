"""Some words of a text replaced by synonyms of WordNet.

Without a tagger, only those words are replaced of which part of speech and sense are as good as
certain: nine of ten times, in the corpus that WordNet counts, the word is of this part of speech,
and mostly of its first sense. It costs most candidates, and nearly all of the nonsense.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import JsonValue

from tunesmith_api.finetunejob.augmentation import Synonyms
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.generator import Rewritten
from tunesmith_trainer.augment.inflection import Form, forms_of, inflected
from tunesmith_trainer.augment.meaning import kept_parts
from tunesmith_trainer.augment.wordnet import PARTS, SYNONYMS, load_wordnet
from tunesmith_trainer.data.rows import Generator

_MIN_PART_SHARE: Final = 0.9
_MIN_SENSE_SHARE: Final = 0.6
# In the corpus, of some 230,000 words with a sense.
_MIN_FREQUENCY: Final = 3
_MIN_RELATIVE_FREQUENCY: Final = 0.1
_HAS_VOWEL: Final = re.compile("[aeiouy]")
# In small letters: whatever has a capital one may be a name. Words with an apostrophe are two.
_WORD: Final = re.compile(r"(?<![\w’'.-])[a-z]{3,}(?![\w’'-])")
# What WordNet has as a noun or an adjective, and everybody uses as something else; and verbs that
# mean little by themselves.
_UNTOUCHED: Final = frozenset(
    (  # noqa: SIM905 - a list would be 200 lines
        "about above across after again against all along also although among and another any "
        "anyone are around because been before behind being below beneath beside between beyond "
        "both but can come could did does doing done down during each either else even ever every "
        "few for from get gets getting give given go goes going gone got had has have having "
        "hello her here hers hey him his how however if inside instead into its itself just keep "
        "kind know let lets like likely look lot made make makes making many may maybe might mine "
        "more most much must near need now off okay one only onto other others ought our ours out "
        "outside over own past per please put quite rather really same say see shall she should "
        "since some someone something sort still such take than thank thanks that the their "
        "theirs them then there these they thing things this those though through thus till too "
        "toward towards two under until unto upon use used very want was way well went were what "
        "whatever when whenever where whether which while who whole whom whose why will with "
        "within would yeah yes yet you your yours"
    ).split()
)
# Of two parts of speech these tell the rarer one: take a guess.
_BEFORE_NOUNS: Final = frozenset(
    (  # noqa: SIM905 - a list would be 200 lines
        "a an the my your his her its our their this that these those some any each every no good "
        "more"
    ).split()
)
# Of the words in small letters; English chat has a half and more, Spanish a sixth.
_MIN_KNOWN_SHARE: Final = 0.3
_ENOUGH_WORDS: Final = 50


@dataclass(frozen=True, slots=True)
class _Replacement:
    start: int
    end: int
    words: tuple[str, ...]


class SynonymGenerator:
    """Replaces words by what WordNet has for them."""

    name: Generator = "synonyms"
    has_variants = True
    # Whatever else it does to a text, most of its words stay.
    min_similarity = 0.0

    def __init__(self, settings: Synonyms, *, seed: int, field: str = SYNONYMS) -> None:
        self._settings = settings
        self._seed = seed
        self._wordnet = load_wordnet(Path(settings.wordnet), field=field)
        self._forms: dict[str, Form | None] = {}

    def require_language(self, texts: Sequence[str]) -> None:
        """Return if the texts look like English.

        Raises:
            BadInputError: WordNet knows hardly any of their words.
        """
        words = [word for text in texts for word in _WORD.findall(text)]
        if len(words) < _ENOUGH_WORDS:
            return
        known = sum(word in _UNTOUCHED or bool(forms_of(word, self._wordnet)) for word in words)
        if known < _MIN_KNOWN_SHARE * len(words):
            raise BadInputError(
                Reason.DATASET_INVALID,
                f"dataset.augmentation.synonyms: WordNet, which is English, knows {known} of "
                f"{len(words)} words of the rows; leave synonyms out, and give backTranslation or "
                "paraphrase",
            )

    def rewrite(self, texts: Sequence[str], *, variant: int) -> list[Rewritten | None]:
        """Each text with other words; None of those that have no word to replace."""
        texts_with_synonyms = (self._rewritten(text, variant=variant) for text in texts)
        return [None if text is None else Rewritten(text) for text in texts_with_synonyms]

    def spent(self) -> dict[str, JsonValue]:
        """Nothing: WordNet lies here."""
        return {}

    def _rewritten(self, text: str, *, variant: int) -> str | None:
        found = self._replacements(text)
        if not found:
            return None
        rng = np.random.default_rng([self._seed, variant, *text.encode("utf-8", "surrogatepass")])
        wanted = max(1, round(self._settings.replaced * len(found)))
        chosen = sorted(rng.permutation(len(found))[:wanted].tolist(), reverse=True)
        for place in chosen:
            one = found[place]
            word = one.words[int(rng.integers(len(one.words)))]
            text = f"{text[: one.start]}{word}{text[one.end :]}"
        return text

    def _replacements(self, text: str) -> list[_Replacement]:
        kept = [(part.start, part.end) for part in kept_parts(text)]
        found = []
        for match in _WORD.finditer(text):
            is_kept = any(start < match.end() and match.start() < end for start, end in kept)
            words = () if is_kept else self._synonyms_of(match[0], before=text[: match.start()])
            if words:
                found.append(_Replacement(match.start(), match.end(), words))
        return found

    def _synonyms_of(self, word: str, *, before: str) -> tuple[str, ...]:
        if word not in self._forms:
            self._forms[word] = self._form_of(word)
        form = self._forms[word]
        previous = before.split(" ")[-2:-1]
        if form is None or (form.part == "verb" and _BEFORE_NOUNS.issuperset(previous or "?")):
            return ()
        others = (
            inflected(lemma, form, self._wordnet)
            for lemma in self._wordnet.synonyms(form.lemma, form.part)
            if self._is_as_common(lemma, form)
        )
        article = re.search(r"\b(an?) $", before)
        return tuple(
            other
            for other in others
            if other is not None
            and other != word
            and (article is None or _is_vowel(other) == _is_vowel(word))
        )

    def _is_as_common(self, lemma: str, form: Form) -> bool:
        """Whether people would say it: nobody has a jaw on-line, nor drives a motorcar."""
        frequency = self._wordnet.frequency
        own, other = frequency(lemma, form.part), frequency(form.lemma, form.part)
        is_rare = own < max(_MIN_FREQUENCY, _MIN_RELATIVE_FREQUENCY * other)
        elsewhere = sum(frequency(lemma, part) for part in PARTS) - own
        # Abbreviations, such as hrs, have no vowels.
        return not is_rare and own >= elsewhere and bool(_HAS_VOWEL.search(lemma))

    def _form_of(self, word: str) -> Form | None:
        """The one form that the word nearly always is, in the one sense that it mostly has."""
        if word in _UNTOUCHED:
            return None
        wordnet = self._wordnet
        forms = forms_of(word, wordnet)
        counts = [wordnet.frequency(form.lemma, form.part) for form in forms]
        total = sum(counts)
        for form, count in zip(forms, counts, strict=True):
            is_sure = count >= max(_MIN_FREQUENCY, _MIN_PART_SHARE * total)
            if is_sure and wordnet.sense_share(form.lemma, form.part) >= _MIN_SENSE_SHARE:
                return form
        return None


def _is_vowel(word: str) -> bool:
    return word[0] in "aeiou"
