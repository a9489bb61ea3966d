"""Tools of a row are what vLLM hands the chat template when the same tools come with a request."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tunesmith_trainer.data.tool_calls import read_tools

SERVER = Path(__file__).parents[2] / ".venvs" / "server" / "bin" / "python"
# As vLLM's own `render_chat` does with the tools of a request.
DUMP = """
import json, sys
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionToolsParam as Tool
print(json.dumps([Tool.model_validate(each).model_dump() for each in json.load(sys.stdin)]))
"""
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "bare"}},
    {
        "type": "function",
        "function": {
            "parameters": {"type": "object", "properties": {"z": {}, "a": {"type": "string"}}},
            "strict": True,
            "description": "Its fields come in another order, and one of them is nobody's.",
            "name": "turned",
            "returns": {"type": "string"},
        },
    },
    {"function": {"name": "untyped", "description": "", "parameters": None}},
]

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]


def test_a_template_gets_the_same_tools_in_training_and_from_vllm() -> None:
    done = subprocess.run(
        [SERVER, "-c", DUMP], input=json.dumps(TOOLS), capture_output=True, text=True, check=True
    )

    # Text, so that the order of the fields counts, which templates write out.
    assert json.dumps(list(read_tools(TOOLS))) == done.stdout.splitlines()[-1]
