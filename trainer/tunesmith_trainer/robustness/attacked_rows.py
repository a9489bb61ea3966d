"""Held-out rows under each attack, ready to be scored beside the rows as they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from tunesmith_api.finetunejob.augmentation import Synonyms
from tunesmith_api.finetunejob.robustness import AttackName, Robustness
from tunesmith_trainer.augment.synonyms import SynonymGenerator
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.prepare.tokenization import TokenizedRow
from tunesmith_trainer.robustness.prompt_attacks import (
    Typos,
    changed_prompt,
    injected_prompt,
    shout_or_whisper,
    wider_gaps,
)

FIELD: Final = "evaluation.robustness"

RowAttack = Callable[[Row], Row | None]


@dataclass(frozen=True, slots=True)
class AttackedRows:
    """What an attack makes of the rows that it changes, by their numbers among the clean rows."""

    attack: AttackName
    numbers: list[int]
    rows: TokenRows
    prompts: dict[int, str]


def row_attacks(settings: Robustness, *, field: str = FIELD) -> dict[AttackName, RowAttack]:
    """What changes a row, by the attack's name; `field` is what names WordNet, for errors.

    Raises:
        BadInputError: WordNet is asked for, and is not here.
    """
    return {attack: _row_attack(attack, settings, field) for attack in settings.attacks}


def attacked_rows(
    attack: AttackName,
    change: RowAttack,
    rows: Sequence[Row],
    *,
    fit: Callable[[Row], TokenizedRow | None],
) -> tuple[AttackedRows, int]:
    """The rows that the attack changes and that then still fit; and how many no longer do."""
    changed = {number: child for number, row in enumerate(rows) if (child := change(row))}
    fitting = {number: fitted for number, child in changed.items() if (fitted := fit(child))}
    sides = [fitted.tokens for fitted in fitting.values()]
    attacked = AttackedRows(
        attack,
        list(fitting),
        TokenRows.of((side.ids, side.trained) for side in sides),
        _prompts(fitting),
    )
    return attacked, len(changed) - len(fitting)


def _prompts(fitting: Mapping[int, TokenizedRow]) -> dict[int, str]:
    return {
        number: fitted.record.prompt
        for number, fitted in fitting.items()
        if fitted.record.prompt is not None
    }


def _row_attack(attack: AttackName, settings: Robustness, field: str) -> RowAttack:
    changed = partial(changed_prompt, name=attack, seed=settings.seed)
    instruction = settings.injection.instruction
    match attack:
        case "typos":
            return partial(changed, attack=Typos(settings.typos))
        case "casing":
            return partial(changed, attack=shout_or_whisper)
        case "whitespace":
            return partial(changed, attack=wider_gaps)
        case "injectionBefore" | "injectionAfter":
            behind = attack == "injectionAfter"
            return partial(injected_prompt, instruction=instruction, behind=behind)
        case "synonyms":
            generator = SynonymGenerator(
                Synonyms(wordnet=settings.wordnet), seed=settings.seed, field=field
            )

            def reworded(text: str, _random: object) -> str | None:
                rewritten = generator.rewrite([text], variant=0)[0]
                return None if rewritten is None else rewritten.text

            return partial(changed, attack=reworded)
