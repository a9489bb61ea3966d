"""A language model's part in synthesis, played by a function: it writes, answers and scores."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from chat_server import Messages

TOPICS = (
    "printer", "router", "keyboard", "calendar", "mailbox", "monitor", "headset", "password",
    "charger", "browser", "camera", "scanner", "server", "tablet", "docking", "speaker",
)  # fmt: skip
FAULTS = (
    "shows nothing but a grey picture since lunch",
    "was lost on the train this morning",
    "asks for a licence that nobody has",
    "smells of smoke whenever it rains",
    "counts backwards after the last update",
    "belongs to a colleague who left us",
    "cannot be found by anybody upstairs",
    "hums louder than our coffee machine",
)


def new_question(number: int) -> str:
    """Another one for each number, for a hundred of them."""
    topic, fault = TOPICS[number % len(TOPICS)], FAULTS[number // len(TOPICS) % len(FAULTS)]
    return f"What now, if the {topic} number {number} {fault}?"


@dataclass
class RowWriterDouble:
    """Replies to a writer's three orders; each may be replaced."""

    question: Callable[[int], str] = lambda number: f"<message>{new_question(number)}</message>"
    answer: Callable[[str], str] = lambda question: f"Bring it to us, {len(question)} times."
    score: Callable[[str], str] = lambda _: "Score: 5"
    numbers: "count[int]" = field(default_factory=count)

    def __call__(self, messages: Messages) -> str:
        order, last = messages[0]["content"], messages[-1]["content"]
        if order.startswith("You judge"):
            return self.score(last)
        if re.match(r"You (re)?write messages", order):
            return self.question(next(self.numbers))
        return self.answer(last)
