"""Rows with tools through the whole of prepare: refused, or trained and handed on as they were."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import load_outcome, prepare_request, run_prepare, write_jsonl
from small_models import make_tiny_model
from tool_template import HERMES
from tunesmith_api.finetunejob.evaluation import Generation
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rows import ToolCall
from tunesmith_trainer.evaluate.generation_metric import choose_generation_suite

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}


def _row(number: int) -> dict[str, Any]:
    call = {"id": "c1", "function": {"name": "weather", "arguments": f'{{"city": {number}}}'}}
    asked = {"role": "user", "content": [{"type": "text", "text": f"Cold in {number}?"}]}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"messages": [asked, calling], "tools": [TOOL]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def test_rows_with_tools_reach_training_and_evaluation(tmp_path: Path, model: str) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [_row(number) for number in range(8)])

    outcome = run_prepare(prepare_request(tmp_path, model=model, chat_template=HERMES))

    records = load_outcome(tmp_path, outcome, model=model).records("train")
    suite = choose_generation_suite(records, settings=Generation(metric="rougeL"))
    assert records[0].messages is not None
    (call,) = records[0].messages[1].tool_calls
    # Which row is the first depends on those that are held out.
    assert call == ToolCall("weather", {"city": call.arguments["city"]}, "c1")
    answer = f'{{"name": "weather", "arguments": {json.dumps(call.arguments)}}}'
    assert (records[0].reference or "").strip() == f"<tool_call>\n{answer}\n</tool_call>"
    # The prompt shows what may be called, in evaluation and in what `verify` asks as well.
    assert '"name": "weather"' in suite.prompts[0]
    served = {"type": "function", "function": {"description": None, **TOOL["function"]}}
    assert (suite.tools[0], len(suite.conversations[0])) == ((served,), 1)
    sample = json.loads((tmp_path / "artifacts" / "data" / "sample.json").read_text())
    assert sample["text"].count("<tool_call>") == 1


def test_a_template_without_tools_is_refused_with_row_and_fields(
    tmp_path: Path, model: str
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [_row(number) for number in range(8)])

    with pytest.raises(BadInputError) as caught:
        run_prepare(prepare_request(tmp_path, model=model))

    assert caught.value.reason is Reason.LOSS_MASK_INVALID
    # Once for all rows, and not the whole sentence for each.
    said, _ = caught.value.message.splitlines()
    assert re.match(r"rows.jsonl:1(, \d){4}: given tools, tool_calls; the model's", said)
