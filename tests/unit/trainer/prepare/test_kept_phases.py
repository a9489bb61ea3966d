"""A prepare that was killed goes on from the rows that it had cleaned and tokenized."""

from pathlib import Path
from typing import Any, cast

import pytest

from prepare_stage import SilentReporter, prepare_request, write_jsonl
from small_models import CHATML, make_tiny_model
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.loss_mask import TokenRow
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Message, Origin, Problems, Row, ToolCall
from tunesmith_trainer.data.stored_rows import StoredRows
from tunesmith_trainer.prepare import kept_phases, stage
from tunesmith_trainer.prepare.kept_phases import KeptPhases
from tunesmith_trainer.prepare.loading import load_data
from tunesmith_trainer.prepare.tokenization import RowTokenizer, TokenizedRow

SPEC: dict[str, Any] = {
    "dataset": {"train": {"uri": "file://rows.jsonl"}, "validationFraction": 0.25, "maxBadRows": 2}
}


class Killed(BaseException):
    """As a signal would end the process."""


@pytest.fixture(autouse=True)
def small_data_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_phases, "_WORTH_KEEPING", 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def request_of(root: Path, model: str) -> StageRequest:
    root.mkdir()
    rows = [
        {"messages": [{"role": "user", "content": f"Is {n} odd?"}, answer]}
        for n, answer in enumerate(
            [
                {"role": "assistant", "content": f"It is number {n}, to begin with."}
                for n in range(12)
            ]
        )
    ]
    write_jsonl(root / "rows.jsonl", [*rows, rows[0], {"messages": "none"}])
    request = prepare_request(root, model=model, chat_template=CHATML, **SPEC)
    Path(request.output).mkdir(parents=True, exist_ok=True)
    return request


def killed_before(name: str, request: StageRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stage, name, kill)
        with pytest.raises(Killed):
            stage.prepare(request, SilentReporter())


@pytest.mark.parametrize(
    ("killed", "not_again"), [("prepare_base", "load_data"), ("split_data", "load_data")]
)
def test_a_killed_prepare_does_no_finished_phase_again(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, killed: str, not_again: str
) -> None:
    undisturbed = stage.prepare(request_of(tmp_path / "one", model), SilentReporter())
    request = request_of(tmp_path / "two", model)
    killed_before(killed, request, monkeypatch)
    if killed == "split_data":
        monkeypatch.setattr(RowTokenizer, "_tokenized", None)
    monkeypatch.setattr(stage, not_again, None)

    outcome = stage.prepare(request, SilentReporter())

    digests = [
        {each.name: each.digest for each in made.artifacts} for made in (undisturbed, outcome)
    ]
    assert digests[0] == digests[1]
    assert undisturbed.facts == outcome.facts
    assert undisturbed.warnings == outcome.warnings
    assert not list((Path(request.output) / "checkpoints").glob("*"))


def test_phases_of_another_release_are_done_again(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(tmp_path / "one", model)
    killed_before("split_data", request, monkeypatch)
    monkeypatch.setattr(kept_phases, "_FORMAT", 99)
    read: list[str] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        read.append("read")
        return load_data(*arguments, **named)

    monkeypatch.setattr(stage, "load_data", counted)

    stage.prepare(request, SilentReporter())

    assert read == ["read"]


def test_what_no_json_holds_is_not_kept_and_the_stage_goes_on(tmp_path: Path) -> None:
    phases, unkept = KeptPhases(tmp_path), cast("TokenizedRow", {1, 2})

    rows = phases.tokenized(
        lambda: {"train": StoredRows.of([unkept])},
        problems=Problems(),
    )

    assert len(rows["train"]) == 1
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_row_is_read_back_as_it_was(tmp_path: Path) -> None:
    call = ToolCall("look", {"at": [1, None]}, id="c")
    turns = (
        Message("user", "Look!"),
        Message("assistant", "", tool_calls=(call,), thinking="Hm.", trained=False),
        Message("tool", "7", tool_call_id="c", name="look"),
        Message("assistant", "Seven 😀"),
    )
    row = Row("a.jsonl:1", turns, tools=({"type": "function"},), labels={"topic": "x"})
    made = Row("a.jsonl:1", text="One.", origin=Origin("selfInstruct", None, ("a:1",), "sha256:0"))
    tokens = TokenRow(ids=(1, 2, 3), trained=(False, True, True))
    given = [
        TokenizedRow(
            each,
            tokens,
            RowRecord(
                each.source, list(each.messages) if each.text is None else None, each.text, "p",
                "r", tools=each.tools, origin=each.origin,
            ),
            rejected,
        )
        for each, rejected in ((row, None), (made, tokens))
    ]  # fmt: skip

    phases = KeptPhases(tmp_path)
    phases.tokenized(lambda: {"train": StoredRows.of(given)}, problems=Problems())
    rows = phases.tokenized(dict, problems=Problems())

    assert list(rows["train"]) == given
