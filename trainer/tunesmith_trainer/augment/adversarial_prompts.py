"""Training rows once more with a changed prompt, and rows about sensitive subjects.

The wanted answer stays the row's own: the model is to answer in spite of typos, and not to obey
what somebody has put into a prompt. A child has its parent's name, so that splits and folds keep
both on one side.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydantic import JsonValue

from tunesmith_api.finetunejob.adversarial_prompts import AdversarialPrompts
from tunesmith_api.finetunejob.robustness import INJECTIONS, AttackName, Robustness
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.augment.meaning import says_the_same
from tunesmith_trainer.augment.new_rows import NewRows
from tunesmith_trainer.data.rows import Origin, Row
from tunesmith_trainer.robustness.attacked_rows import RowAttack, row_attacks
from tunesmith_trainer.robustness.prompt_attacks import injected_prompt

FIELD: Final = "dataset.augmentation.adversarial"
# Of which what must stay is compared; others change case or spacing, which that comparison reads.
_GUARDED: Final = frozenset({"typos", "synonyms"})
# Variants of a row that are tried; ratio is at most 4.
_MOST_ROUNDS: Final = 16


@dataclass(frozen=True, slots=True)
class AttackedChildren:
    """Rows with a changed prompt; how many there are of each attack, and what was thrown away."""

    rows: list[Row]
    attacks: dict[str, int]
    refused: dict[str, int]

    def card(self, kept: int, refused: dict[str, int], *, sensitive: int) -> dict[str, JsonValue]:
        """For the data card: how many stayed."""
        return {
            "children": kept,
            "attacks": {**self.attacks},
            "thrownAway": {**self.refused, **refused},
            "sensitive": sensitive,
        }


def attacked_children(
    rows: Sequence[Row], held_out: Sequence[Row], *, settings: AdversarialPrompts, seed: int
) -> AttackedChildren:
    """As many changed rows as `ratio` says, or as there are to be had.

    Raises:
        BadInputError: WordNet is asked for and not here, or there is nothing to change.
    """
    wanted = max(1, round(settings.ratio * len(rows)))
    children: list[Row] = []
    attacks, refused = Counter[str](), Counter[str]()
    new = NewRows(rows, held_out, refused=refused)
    for attack, parent, child in _tried(rows, settings, seed):
        cause = _cause(attack, parent, child)
        if cause is not None:
            refused[cause] += 1
        if cause is not None or not new.takes(child):
            continue
        attacks[attack] += 1
        children.append(child)
        if len(children) == wanted:
            break
    if not children:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"spec.{FIELD}.attacks: given {', '.join(settings.attacks)}; not one of {len(rows)} "
            "training rows has a prompt that they change; name others, or leave adversarial out",
        )
    return AttackedChildren(children, dict(attacks), dict(refused))


def sensitive_rows(
    given: Sequence[Row], rows: Sequence[Row], held_out: Sequence[Row]
) -> tuple[list[Row], dict[str, int]]:
    """Rows of the file as rows of the job; and how many were left out, by cause."""
    refused = Counter[str]()
    new = NewRows(rows, held_out, refused=refused)
    kept = [replace(row, origin=Origin("sensitive")) for row in given if new.takes(row)]
    return kept, dict(refused)


def _tried(
    rows: Sequence[Row], settings: AdversarialPrompts, seed: int
) -> Iterator[tuple[AttackName, Row, Row]]:
    """Changed rows, round after round, until one of those brings nothing."""
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    attacks, instructions = settings.attacks, settings.instructions
    for number in range(_MOST_ROUNDS):
        changes, found = _attacks(settings, seed=(seed + number) % 2**31), False
        for place, index in enumerate(order, start=number):
            first = place % len(attacks)
            instruction = instructions[place // len(attacks) % len(instructions)]
            # The next one where the first finds nothing to change in this row.
            for attack in (*attacks[first:], *attacks[:first]):
                child = _changed(rows[index], attack, changes, instruction)
                if child is not None:
                    found = True
                    origin = Origin("adversarial", parent=rows[index].source)
                    yield attack, rows[index], replace(child, origin=origin)
                    break
        if not found:
            return


def _changed(
    row: Row, attack: AttackName, changes: Mapping[AttackName, RowAttack], instruction: str
) -> Row | None:
    if attack in INJECTIONS:
        return injected_prompt(row, instruction, behind=attack == "injectionAfter")
    return changes[attack](row)


def _attacks(settings: AdversarialPrompts, *, seed: int) -> dict[AttackName, RowAttack]:
    asked = Robustness(
        attacks=settings.attacks, typos=settings.typos, wordnet=settings.wordnet, seed=seed
    )
    return row_attacks(asked, field=FIELD)


def _cause(attack: AttackName, parent: Row, child: Row) -> str | None:
    """Why a child is of no use; None where it is."""
    if attack not in _GUARDED:
        return None
    pairs = zip(parent.messages, child.messages, strict=True)
    same = all(
        says_the_same(turn.content, other.content, min_similarity=0) for turn, other in pairs
    )
    return None if same else "otherMeaning"
