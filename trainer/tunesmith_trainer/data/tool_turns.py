"""Whether a chat template shows what a row says of tools, and what its answers come from.

Many templates pass over `tools=`, calls and thinking without a word, and the model would learn
answers that come from nowhere. `chat_template` renders the row a second time, with marks in the
place of what it has to show, and asks which of them are missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from tunesmith_trainer.data.rows import Message, Tool, ToolCall

# Letters and digits alone, so that no template trims, escapes or splits it; with an end of its own,
# so that mark 1 is not found in mark 10.
MARK: Final = "TunesmithMark{number}EndOfMark"

TOOLS: Final = "tools"
CALLS: Final = "tool_calls"
WORDS: Final = "content beside tool_calls"
RESULTS: Final = "turns of tool"
THINKING: Final = "thinking of an answer"


def has_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> bool:
    """Whether anything in the row has to do with tools."""
    return bool(tools) or any(turn.tool_calls or turn.role == "tool" for turn in messages)


class MarkedTools:
    """A row with marks in the place of its tools, calls, results and thinking.

    `fields` names each mark's. Thinking of answers that are not trained may be hidden: templates
    leave that of earlier turns out, as servers do.
    """

    def __init__(self, messages: Sequence[Message], tools: Sequence[Tool]) -> None:
        self._numbers = count()
        self.fields: dict[str, str] = {}
        self.tools = [self._tool(tool) for tool in tools]
        self.messages = [self._turn(turn) for turn in messages]

    def hidden_in(self, rendered: str) -> list[str]:
        """The fields of which the rendered text lacks a mark."""
        missing = (field for mark, field in self.fields.items() if mark not in rendered)
        return list(dict.fromkeys(missing))

    def _mark(self, field: str) -> str:
        mark = MARK.format(number=next(self._numbers))
        self.fields[mark] = field
        return mark

    def _tool(self, tool: Tool) -> Tool:
        function: Mapping[str, object] = tool["function"]
        return {**tool, "function": {**function, "name": self._mark(TOOLS)}}

    def _turn(self, turn: Message) -> Message:
        if turn.role == "tool":
            return turn.with_content(self._mark(RESULTS))
        if turn.thinking and turn.trained:
            turn = replace(turn, thinking=self._mark(THINKING))
        if not turn.tool_calls:
            return turn
        # The name is looked for where the answer is; the template may well look it up in `tools`.
        calls = tuple(
            ToolCall(name=call.name, arguments={self._mark(CALLS): self._mark(CALLS)}, id=call.id)
            for call in turn.tool_calls
        )
        words = self._mark(WORDS) if turn.content.strip() else turn.content
        return replace(turn, content=words, tool_calls=calls)
