"""A chat template of a stranger ends in its time, whatever it loops over."""

import signal
import threading
import time

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fuzzing import SHORT, fuzz
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data import chat_template
from tunesmith_trainer.data.chat_template import (
    ChatTemplate,
    HiddenToolsError,
    RefusedConversationError,
    UnclearAnswerError,
)
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.data.time_limit import OverTimeError, time_limit

TURNS = [Message(role="user", content="Why?"), Message(role="assistant", content="So.")]
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
CHATML = (
    b"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    b"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Tokenizer:
    """What transformers does with a template: it renders it in Jinja's sandbox."""

    def __init__(self, template: str) -> None:
        self._template = template

    def apply_chat_template(self, messages: list[dict[str, object]], **given: object) -> str:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(self._template).render(messages=messages, **given)


def rendered(template: str) -> object:
    return ChatTemplate(Tokenizer(template)).render(TURNS)


def test_a_template_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_LONGEST_S", 0.3)
    with pytest.raises(BadInputError, match=r"more than 0\.3 s for one conversation"):
        rendered(ENDLESS)

    assert rendered(CHATML.decode())


def test_a_template_with_anything_in_it_renders_or_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat_template, "_LONGEST_S", 2.0)
    refusals = (
        BadInputError, HiddenToolsError, RefusedConversationError, UnclearAnswerError,
    )  # fmt: skip
    fuzz(
        lambda content: rendered(content.decode("utf-8", errors="replace")),
        [CHATML],
        refusals=refusals,
        examples=SHORT,
    )


def test_the_clock_of_somebody_else_goes_on() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    earlier, _ = signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(OverTimeError), time_limit(0.05):
            time.sleep(5)
        time.sleep(0.4)
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, earlier)

    assert heard == [signal.SIGALRM]


def test_another_thread_is_not_limited() -> None:
    ended: list[bool] = []

    def wait() -> None:
        with time_limit(0.01):
            time.sleep(0.05)
            ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()

    assert ended == [True]
