"""`chat` with the model of a finished job: served for the conversation, and gone after it."""

import json
from pathlib import Path

import pytest

from command import processes_of
from job_folders import a_failed_job, a_finished_job
from laptop import Laptop
from stand_in_serve import OPTIONS


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    """A finished job whose version a stand-in serves, and one that failed."""
    laptop = Laptop.of(tmp_path)
    a_finished_job(laptop.home)
    a_failed_job(laptop.home)
    return laptop


def wish(laptop: Laptop, **options: object) -> None:
    (folder,) = laptop.home.glob("jobs/helpdesk/stages/publish/*/artifacts/helpdesk/*")
    (folder / OPTIONS).write_text(json.dumps(options))


def test_a_finished_job_answers_line_by_line_and_leaves_nothing_running(laptop: Laptop) -> None:
    wish(laptop)

    chat = laptop.run("chat", "helpdesk", text="My printer does not print.\nIt is on.\n")

    assert chat.returncode == 0, chat.stderr
    assert len(chat.stdout.splitlines()) == 2
    assert "starting vLLM on" in chat.stderr
    assert "version 1a2b3c4d5e6f" in chat.stderr
    assert processes_of(laptop.home) == []


def test_an_answer_that_does_not_end_is_cut_and_says_so(laptop: Laptop) -> None:
    wish(laptop)

    chat = laptop.run("chat", "helpdesk", "--max-tokens", "2", text="My printer does not print.\n")

    assert chat.returncode == 0, chat.stderr
    assert "the answer ends at 2 tokens; --max-tokens allows more" in chat.stderr


def test_a_server_that_does_not_start_says_why(laptop: Laptop) -> None:
    wish(laptop, refused=True)

    chat = laptop.run("chat", "helpdesk", text="Hello?\n")

    assert (chat.returncode, chat.stdout) == (1, "")
    assert "the server has ended with 2" in chat.stderr
    assert processes_of(laptop.home) == []


def test_a_server_that_is_not_what_was_verified_is_not_talked_to(laptop: Laptop) -> None:
    wish(laptop, nonsense=True)

    chat = laptop.run("chat", "helpdesk", text="Hello?\n")

    assert (chat.returncode, chat.stdout) == (1, "")
    assert "the server cannot be trusted: " in chat.stderr
    assert processes_of(laptop.home) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refused", "job 'refused' has published no model (Failed)"),
        ("helpdsk", "no deployment or job 'helpdsk'"),
    ],
)
def test_what_cannot_be_talked_to_is_refused(laptop: Laptop, name: str, said: str) -> None:
    chat = laptop.run("chat", name, text="Hello?\n")

    assert chat.returncode == 2
    assert said in chat.stderr
