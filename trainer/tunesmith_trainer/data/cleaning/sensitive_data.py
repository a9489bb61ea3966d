"""What is done about secrets and personal data in rows: removed, masked, refused or told.

`recognizers` finds them. A finding names the kind, never the value.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

from tunesmith_api.finetunejob.cleaning import Cleaning, SensitivePolicy
from tunesmith_trainer.data.cleaning.findings import Action, Finding
from tunesmith_trainer.data.cleaning.recognizers import (
    Span,
    masked,
    spans_of_personal_data,
    spans_of_secrets,
)
from tunesmith_trainer.data.cleaning.row_texts import texts_in, with_texts
from tunesmith_trainer.data.rows import Problems, Row

Search = Callable[[str], list[Span]]


def treat_sensitive(
    rows: Sequence[Row], *, cleaning: Cleaning, split: str, problems: Problems
) -> tuple[list[Row], list[Finding]]:
    """The rows that stay, and what was found in which of them; what is refused goes to problems."""
    personal = cleaning.personal_data
    of_persons = partial(_personal_data, kinds=frozenset(personal.kinds))
    kept, findings = list(rows), []
    asked: tuple[tuple[str, str, SensitivePolicy, Search], ...] = (
        ("secrets", "secrets", cleaning.secrets, spans_of_secrets),
        ("personalData", "personalData.policy", personal.policy, of_persons),
    )
    for rule, path, policy, find in asked:
        if policy != "keep":
            kept, found = _treated(kept, find, policy=policy, rule=rule, split=split)
            findings += found
            if policy == "fail":
                _refuse(found, path=path, problems=problems)
    return kept, findings


def _personal_data(text: str, kinds: Collection[str]) -> list[Span]:
    # A key may hold what looks like a telephone number, a password what looks like an address.
    secrets = spans_of_secrets(text)
    return [
        span
        for span in spans_of_personal_data(text, kinds)
        if all(span.end <= key.start or key.end <= span.start for key in secrets)
    ]


def _treated(
    rows: Sequence[Row], find: Search, *, policy: SensitivePolicy, rule: str, split: str
) -> tuple[list[Row], list[Finding]]:
    kept, findings = [], []
    actions: dict[SensitivePolicy, Action] = {"remove": "removed", "mask": "masked"}
    for row in rows:
        kinds = {span.kind for text in texts_in(row) for span in find(text)}
        if kinds:
            action = actions.get(policy, "kept")
            findings.append(Finding(rule, row.source, split, action, kinds=tuple(sorted(kinds))))
        if kinds and policy == "mask":
            kept.append(with_texts(row, lambda text: masked(text, find(text))))
        elif not kinds or policy != "remove":
            kept.append(row)
    return kept, findings


def _refuse(findings: Sequence[Finding], *, path: str, problems: Problems) -> None:
    for finding in findings:
        problems.add(
            finding.row,
            given=", ".join(finding.kinds),
            rule=f"dataset.cleaning.{path} is fail",
            remedy="take it out of the row, or set mask or remove",
            is_bad_row=False,
        )
