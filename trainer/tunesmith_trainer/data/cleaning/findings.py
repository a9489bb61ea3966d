"""What cleaning found: a rule, a row and what was done, never a word of the row."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Action = Literal["removed", "repaired", "masked", "kept"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule in one row.

    Attributes:
        rule: path of its field below `dataset.cleaning`, such as noise.refusals.
        row: "file:line".
        split: whose rows were looked at: train, validation or replay.
        action: what was done; `kept` where the policy is to warn.
        of: the row that this one is a copy of, that it holds, or that it contradicts.
        kinds: of secrets and personal data, what they are.
    """

    rule: str
    row: str
    split: str
    action: Action
    of: str | None = None
    kinds: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """The finding as a line of the audit file has it."""
        told: dict[str, object] = {
            "rule": self.rule,
            "row": self.row,
            "split": self.split,
            "action": self.action,
        }
        if self.of is not None:
            told["of"] = self.of
        return told | ({"kinds": list(self.kinds)} if self.kinds else {})


def write_audit(findings: Iterable[Finding], path: Path) -> None:
    """A line of JSON for each, in the order in which the rules ran."""
    lines = (json.dumps(finding.as_json(), ensure_ascii=False) for finding in findings)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def counted_by_rule(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """Rows by rule and by what was done."""
    counts: dict[str, Counter[str]] = {}
    for finding in findings:
        counts.setdefault(finding.rule, Counter())[finding.action] += 1
    return {rule: dict(actions) for rule, actions in counts.items()}


def told(counts: Mapping[str, Mapping[str, int]], action: Action) -> str:
    """`nearDuplicates 3, noise.refusals 1`; an empty text where nothing was done so."""
    done = {rule: actions[action] for rule, actions in counts.items() if action in actions}
    return ", ".join(f"{rule} {number}" for rule, number in done.items())


def warnings_of(findings: Iterable[Finding]) -> list[str]:
    """What was found and left as it was; none where nothing was."""
    kept = told(counted_by_rule(findings), "kept")
    return [f"cleaning found, and left as it was: {kept}; the audit file has rows"] if kept else []
