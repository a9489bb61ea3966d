"""What the command says to do about a reason is what the pages about failures say."""

import re
from pathlib import Path

import pytest

from tunesmith_api.reasons import Reason
from tunesmith_cli.hints import hint_for

TASKS = Path(__file__).parents[3] / "docs" / "task"
PAGES = (TASKS / "when-a-job-fails.md", TASKS / "when-a-rollout-stops.md")
HEALTHY = {
    Reason.PENDING,
    Reason.RUNNING,
    Reason.CACHED,
    Reason.SUCCEEDED,
    Reason.DEPLOYING,
    Reason.ANALYZING,
    Reason.PROMOTING,
    Reason.PROMOTED,
    Reason.DRAINING,
    Reason.SERVING,
    Reason.FINGERPRINTS_MATCH,
    Reason.TRAFFIC_AS_REFERENCE,
    Reason.WITHIN_ERROR_BUDGET,
}


def hints_of_the_pages() -> dict[str, str]:
    """The last column of the pages' tables by each reason in its first, without Markdown."""
    hints: dict[str, str] = {}
    for line in "\n".join(page.read_text(encoding="utf-8") for page in PAGES).splitlines():
        if line.startswith("| `"):
            reasons, _, hint = (cell.strip() for cell in line.strip("|").split("|"))
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", hint).replace("`", "")
            hints |= dict.fromkeys(re.findall(r"`(\w+)`", reasons), text)
    return hints


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in HEALTHY])
def test_the_command_and_the_pages_give_the_same_advice(reason: Reason) -> None:
    assert hint_for(reason) == hints_of_the_pages()[reason]


@pytest.mark.parametrize("reason", [*sorted(HEALTHY), "OfALaterVersion"])
def test_there_is_nothing_to_do_about_what_is_healthy(reason: str) -> None:
    assert hint_for(reason) == ""
