"""What is done about secrets and personal data in rows: removed, masked, refused or told.

`recognizers` finds them. A finding names the kind, never the value.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial

from tunesmith_api.finetunejob.cleaning import (
    Cleaning,
    PersonalData,
    Presidio,
    SensitivePolicy,
)
from tunesmith_trainer.data.cleaning.findings import Action, Finding
from tunesmith_trainer.data.cleaning.presidio import spans_of_presidio
from tunesmith_trainer.data.cleaning.recognizers import (
    Span,
    masked,
    spans_of_personal_data,
    spans_of_secrets,
)
from tunesmith_trainer.data.cleaning.row_texts import texts_in, with_texts
from tunesmith_trainer.data.rows import Problems, Row
from tunesmith_trainer.data.stored_rows import StoredRows

Search = Callable[[str], list[Span]]


def treat_sensitive(
    rows: StoredRows[Row], *, cleaning: Cleaning, split: str, problems: Problems
) -> tuple[StoredRows[Row], list[Finding]]:
    """The rows that stay, and what was found in which of them; what is refused goes to problems."""
    personal = cleaning.personal_data
    of_persons = personal_data_search(personal)
    kept, findings = rows, list[Finding]()
    asked: tuple[tuple[str, str, SensitivePolicy, Search], ...] = (
        ("secrets", "secrets", cleaning.secrets, spans_of_secrets),
        ("personalData", "personalData.policy", personal.policy, of_persons),
    )
    for rule, path, policy, find in asked:
        if policy != "keep":
            found: list[Finding] = []
            treated = _treated(kept, find, policy=policy, rule=rule, split=split, found=found)
            # Only masks change a row.
            if policy == "mask":
                kept = StoredRows.of(row for _, row in treated)
            else:
                kept = kept.chosen([place for place, _ in treated])
            findings += found
            if policy == "fail":
                _refuse(found, path=path, problems=problems)
    return kept, findings


def personal_data_search(personal: PersonalData) -> Search:
    """What finds the personal data that the job asks for."""
    return partial(_personal_data, kinds=frozenset(personal.kinds), presidio=personal.presidio)


def _personal_data(
    text: str, kinds: Collection[str], presidio: Presidio | None = None
) -> list[Span]:
    found = spans_of_personal_data(text, kinds)
    by_presidio = [] if presidio is None else spans_of_presidio(text, presidio)
    if not (found or by_presidio):
        return []
    # A key may hold what looks like a telephone number, a password what looks like an address.
    secrets = spans_of_secrets(text)
    found = _apart(found, secrets)
    return [*found, *_apart(by_presidio, [*found, *secrets])]


def _apart(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Those that lie outside of all others."""
    return [
        span
        for span in spans
        if all(span.end <= other.start or other.end <= span.start for other in others)
    ]


def _treated(
    rows: Iterable[Row],
    find: Search,
    *,
    policy: SensitivePolicy,
    rule: str,
    split: str,
    found: list[Finding],
) -> Iterator[tuple[int, Row]]:
    """The rows that stay, and their places among those given."""
    actions: dict[SensitivePolicy, Action] = {"remove": "removed", "mask": "masked"}
    for place, row in enumerate(rows):
        kinds = {span.kind for text in texts_in(row) for span in find(text)}
        if kinds:
            action = actions.get(policy, "kept")
            found.append(Finding(rule, row.source, split, action, kinds=tuple(sorted(kinds))))
        if kinds and policy == "mask":
            yield place, with_texts(row, lambda text: masked(text, find(text)))
        elif not kinds or policy != "remove":
            yield place, row


def _refuse(findings: Sequence[Finding], *, path: str, problems: Problems) -> None:
    for finding in findings:
        problems.add(
            finding.row,
            given=", ".join(finding.kinds),
            rule=f"dataset.cleaning.{path} is fail",
            remedy="take it out of the row, or set mask or remove",
            is_bad_row=False,
        )
