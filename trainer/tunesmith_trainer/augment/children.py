"""Which training rows get children, who writes them, and which of them stay.

`training_rows` calls `children_of` behind the split: held-out rows have no children, and no child
asks what a held-out row asks. Rows get theirs in an order that the seed decides, generators take
turns, and rounds go on until there are as many children as are asked for, or no more to be had.
"""

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import JsonValue

from tunesmith_api.finetunejob.augmentation import Augmentation
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.digests import digest_json
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.back_translation import BackTranslationGenerator
from tunesmith_trainer.augment.generator import Rewritten, TextGenerator
from tunesmith_trainer.augment.meaning import says_the_same
from tunesmith_trainer.augment.new_rows import NewRows
from tunesmith_trainer.augment.paraphrase import ParaphraseGenerator
from tunesmith_trainer.augment.synonyms import SynonymGenerator
from tunesmith_trainer.data.cleaning.made_rows import MadeRows, kept_warnings
from tunesmith_trainer.data.cleaning.row_keys import squeezed
from tunesmith_trainer.data.rows import Generator, Origin, Row

_FIELD: Final = "dataset.augmentation"
# Variants of one generator that writes several; ratio is at most 4.
_MOST_VARIANTS: Final = 8
_BATCH_ROWS: Final = 256
# So that the last few children do not start a process each.
_LEAST_BATCH_ROWS: Final = 8
# Of the children asked for; fewer are told in a warning.
_MANY_MISSING: Final = 0.9
# Bytes on disk for one of text: the record with its rendered prompt, and the tokens.
_BYTES_PER_CHARACTER: Final = 6
# The place of a row's text, which has no turns.
_TEXT: Final = -1


@dataclass(frozen=True, slots=True)
class Children:
    """The rows, and how they came about: for the data card, and in words."""

    rows: list[Row]
    card: dict[str, JsonValue]
    note: str
    warnings: tuple[str, ...]


def open_generators(request: StageRequest) -> list[TextGenerator]:
    """The generators that the job names, ready to write.

    Raises:
        StageError: what one of them needs is not here.
    """
    settings = request.spec.dataset.augmentation
    if settings is None:
        return []
    generators: list[TextGenerator] = []
    if settings.synonyms is not None:
        generators.append(SynonymGenerator(settings.synonyms, seed=settings.seed))
    if settings.back_translation is not None:
        generators.append(BackTranslationGenerator(settings.back_translation))
    if settings.paraphrase is not None:
        generators.append(ParaphraseGenerator(settings.paraphrase, request=request))
    return generators


def children_of(
    rows: Sequence[Row],
    held_out: Sequence[Row],
    *,
    settings: Augmentation,
    generators: Sequence[TextGenerator],
    made: MadeRows,
    reporter: Reporter,
    output: Path,
) -> Children:
    """Children of `rows`.

    Raises:
        StageError: the rows have nothing to put in other words, a generator does not know their
            language or fails, no child is of use, or there is no room for them.
    """
    _refuse_other_rows(rows, settings)
    _refuse_too_many(rows, settings, output=output)
    texts = [text for row in rows for text in _texts_of(row, settings).values()]
    for generator in generators:
        generator.require_language(texts)
    family = _Family(rows, held_out, settings, made=made)
    wanted = max(1, round(settings.ratio * len(rows)))
    for generator, variant, batch in _rounds(rows, generators, family, wanted, settings.seed):
        family.add(batch, generator, variant=variant, most=wanted)
        reporter.progress(
            "putting rows in other words", step=len(family.children), total_steps=wanted
        )
    return _told(family, generators, wanted=wanted, num_rows=len(rows))


class _Family:
    """The children so far, and what none of them may be."""

    def __init__(
        self,
        rows: Sequence[Row],
        held_out: Sequence[Row],
        settings: Augmentation,
        *,
        made: MadeRows,
    ) -> None:
        self._settings = settings
        self.made = made
        self.children: list[Row] = []
        self.refused: Counter[str] = made.refused
        self._new = NewRows(rows, held_out, refused=made.refused)

    def add(
        self, rows: Sequence[Row], generator: TextGenerator, *, variant: int, most: int
    ) -> None:
        """Add a child of each row for which the generator has one of use."""
        texts = [_texts_of(row, self._settings) for row in rows]
        flat = [text for of_row in texts for text in of_row.values()]
        rewritten = iter(generator.rewrite(flat, variant=variant))
        children = []
        for row, of_row in zip(rows, texts, strict=True):
            answers = {place: next(rewritten) for place in of_row}
            changed = {
                place: answer
                for place, answer in answers.items()
                if answer is not None
                and self._is_of_use(of_row[place], answer, least=generator.min_similarity)
            }
            if changed:
                children.append(_child_of(row, changed, generator=generator.name))
        for child in self.made.fit(children):
            if len(self.children) < most and self._new.takes(child):
                self.children.append(child)

    def _is_of_use(self, text: str, answer: Rewritten, *, least: float) -> bool:
        if squeezed(text).casefold() == squeezed(answer.text).casefold():
            self.refused["unchanged"] += 1
            return False
        if not says_the_same(text, answer.text, min_similarity=least):
            self.refused["otherMeaning"] += 1
            return False
        return True


def _rounds(
    rows: Sequence[Row],
    generators: Sequence[TextGenerator],
    family: _Family,
    wanted: int,
    seed: int,
) -> Iterator[tuple[TextGenerator, int, list[Row]]]:
    """Who shall write which variant of which rows next, until there are children enough."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    before = -1
    for turn in range(len(generators) * _MOST_VARIANTS):
        variant, generation = divmod(turn, len(generators))
        if generation == 0:
            # Of a variant that brought nothing there is no next one.
            if len(family.children) == before:
                return
            before = len(family.children)
        start = 0
        while start < len(order):
            missing = wanted - len(family.children)
            if missing <= 0:
                return
            size = min(_BATCH_ROWS, max(missing, _LEAST_BATCH_ROWS))
            batch = order[start : start + size]
            for place, generator in enumerate(generators):
                # In each round a row is another generator's.
                own = [
                    rows[index]
                    for at, index in enumerate(batch, start=start)
                    if (at + turn) % len(generators) == place
                ]
                if own and (generator.has_variants or not variant):
                    yield generator, variant, own
            start += size


def _texts_of(row: Row, settings: Augmentation) -> dict[int, str]:
    """What is put in other words, by the place of its turn."""
    if row.text is not None:
        return {_TEXT: row.text}
    prompt = row.messages[: row.num_prompt] if row.rejected else row.messages
    return {
        place: turn.content
        for place, turn in enumerate(prompt)
        if turn.content.strip()
        and (
            turn.role == "user"
            or (settings.turns == "all" and turn.is_trained and not turn.tool_calls)
        )
    }


def _child_of(row: Row, changed: Mapping[int, Rewritten], *, generator: Generator) -> Row:
    digests = [one.prompt_digest for one in changed.values() if one.prompt_digest is not None]
    origin = Origin(
        generator,
        parent=row.source,
        prompt_digest=digests[0]
        if len(digests) == 1
        else digest_json([*digests])
        if digests
        else None,
    )
    if row.text is not None:
        return replace(row, text=changed[_TEXT].text, origin=origin)
    # Both answers of a preference go on from one prompt.
    messages, rejected = (
        tuple(
            turn.with_content(changed[place].text) if place in changed else turn
            for place, turn in enumerate(turns)
        )
        for turns in (row.messages, row.rejected)
    )
    return replace(row, messages=messages, rejected=rejected, origin=origin)


def _refuse_other_rows(rows: Sequence[Row], settings: Augmentation) -> None:
    if settings.turns == "prompts" and all(row.text is not None for row in rows):
        given, rule = "prompts", "rows of format text have none"
        remedy = "set turns: all, or leave augmentation out"
    elif settings.turns == "all" and any(row.rejected for row in rows):
        given, rule = "all", "a preference says which of two answers is better, as they are"
        remedy = "set turns: prompts"
    else:
        return
    message = f"{_FIELD}.turns: given {given}; {rule}; {remedy}"
    raise BadInputError(Reason.DATASET_INVALID, message)


def _refuse_too_many(rows: Sequence[Row], settings: Augmentation, *, output: Path) -> None:
    characters = sum(len(turn.said) for row in rows for turn in (*row.messages, *row.rejected))
    characters += sum(len(row.text or "") for row in rows)
    needed = math.ceil(characters * settings.ratio * _BYTES_PER_CHARACTER)
    free = shutil.disk_usage(output).free
    if needed > free:
        raise BadInputError(
            Reason.DISK_ESTIMATE_EXCEEDED,
            f"{_FIELD}.ratio: given {settings.ratio}; the children of {len(rows)} rows take about "
            f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; lower it, or make room",
        )


def _told(
    family: _Family, generators: Sequence[TextGenerator], *, wanted: int, num_rows: int
) -> Children:
    made, refused = len(family.children), sum(family.refused.values())
    if not made:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{_FIELD}: not one child of {num_rows} rows is of use ({_words(family.refused)}); "
            "lower minSimilarity, name another generator, or leave augmentation out",
        )
    by_generator = Counter[str](child.origin.generator for child in family.children)
    spent: dict[str, JsonValue] = {
        generator.name: cost for generator in generators if (cost := generator.spent())
    }
    card: dict[str, JsonValue] = {
        "wanted": wanted,
        "children": dict(by_generator),
        "thrownAway": dict(family.refused),
        **({"spent": spent} if spent else {}),
        **({"masked": dict(family.made.masked)} if family.made.masked else {}),
    }
    note = f"{made} children added ({_words(by_generator)}; {refused} texts thrown away)"
    warning = (
        f"{_FIELD}: {made} children in place of {wanted}: the generators have no more that are of "
        f"use (thrown away: {_words(family.refused)})"
    )
    return Children(
        rows=family.children,
        card=card,
        note=note,
        warnings=(
            *((warning,) if made < _MANY_MISSING * wanted else ()),
            *(kept_warnings(family.made, field=_FIELD)),
        ),
    )


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
