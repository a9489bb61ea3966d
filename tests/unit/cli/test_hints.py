"""What the command says to do about a reason is what the page about failures says."""

import re
from pathlib import Path

import pytest

from tunesmith_api.reasons import Reason
from tunesmith_cli.hints import hint_for

PAGE = Path(__file__).parents[3] / "docs" / "task" / "when-a-job-fails.md"
HEALTHY = {Reason.PENDING, Reason.RUNNING, Reason.CACHED, Reason.SUCCEEDED}


def hints_of_the_page() -> dict[str, str]:
    """The last column of the page's table by each reason in its first, without Markdown."""
    hints: dict[str, str] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            reasons, _, hint = (cell.strip() for cell in line.strip("|").split("|"))
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", hint).replace("`", "")
            hints |= dict.fromkeys(re.findall(r"`(\w+)`", reasons), text)
    return hints


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in HEALTHY])
def test_the_command_and_the_page_give_the_same_advice(reason: Reason) -> None:
    assert hint_for(reason) == hints_of_the_page()[reason]


@pytest.mark.parametrize("reason", [*sorted(HEALTHY), "OfALaterVersion"])
def test_there_is_nothing_to_do_about_a_healthy_job(reason: str) -> None:
    assert hint_for(reason) == ""
