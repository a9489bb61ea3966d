"""The base model writes its own replay rows, the same ones however often it is interrupted."""

from pathlib import Path
from typing import Any

import pytest

from small_models import make_tiny_model, make_tiny_tokenizer
from tuned_job import SilentReporter, make_tuned_job, request_for
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.data.cleaning.variety import is_varied
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.rehearse.sampling import user_turn_ids
from tunesmith_trainer.rehearse.stage import rehearse

ROWS = {"uri": "file://rows.jsonl"}


def rehearsed(job: Path, output: Path, **settings: Any) -> StageOutcome:
    asked = {"rows": 20, "maxNewTokens": 12, **settings}
    request = request_for(
        job,
        "rehearse",
        output=output,
        dataset={"train": ROWS, "replay": {"ratio": 0.1, "selfSynthesis": asked}},
    )
    return rehearse(request, SilentReporter())


def rows_of(outcome: StageOutcome) -> TokenRows:
    return TokenRows.load(local_path(outcome.artifacts[0]))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("job"))


def test_a_chat_model_writes_a_question_and_its_answer_alone_is_learnt(
    job: Path, tmp_path: Path
) -> None:
    outcome = rehearsed(job, tmp_path / "out")

    rows, tokenizer = rows_of(outcome), load_tokenizer(job / "model")
    assert len(rows) == outcome.facts["numRows"] == 20
    for index in range(len(rows)):
        ids, trained = rows.row(index)
        text = tokenizer.decode(ids)
        assert text.count("<|im_start|>user\n") == 1
        learnt = tokenizer.decode(ids[trained])
        assert learnt.endswith("<|im_end|>")
        assert text.endswith(f"<|im_start|>assistant\n{learnt}\n")


def test_a_run_that_was_killed_repeats_nothing_and_ends_alike(job: Path, tmp_path: Path) -> None:
    whole = rows_of(rehearsed(job, tmp_path / "whole"))
    kept = tmp_path / "cut" / "checkpoints" / "batch-0.json"
    kept.parent.mkdir(parents=True)
    kept.write_text((tmp_path / "whole" / "checkpoints" / "batch-0.json").read_text())
    before = kept.stat().st_mtime_ns

    cut = rows_of(rehearsed(job, tmp_path / "cut"))

    assert cut.input_ids.tolist() == whole.input_ids.tolist()
    assert kept.stat().st_mtime_ns == before


def test_another_seed_writes_other_rows(job: Path, tmp_path: Path) -> None:
    one, other = (rows_of(rehearsed(job, tmp_path / str(seed), seed=seed)) for seed in (0, 1))

    assert one.input_ids.tolist() != other.input_ids.tolist()


def test_a_model_without_template_goes_on_from_its_begin(tmp_path: Path) -> None:
    job = make_tuned_job(tmp_path)
    make_tiny_model(job / "model")
    tokenizer = make_tiny_tokenizer(chat_template=None)
    (job / "model" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(job / "model")

    rows = rows_of(rehearsed(job, tmp_path / "out"))

    ids, trained = rows.row(0)
    assert trained.tolist() == [False] + [True] * (len(ids) - 1)


def test_the_start_of_a_users_turn_is_what_the_template_puts_in_front_of_words() -> None:
    tokenizer = make_tiny_tokenizer()

    ids = user_turn_ids(tokenizer)

    assert ids is not None
    assert tokenizer.decode(ids).endswith("<|im_start|>user\n")
    assert user_turn_ids(make_tiny_tokenizer(chat_template=None)) is None


@pytest.mark.parametrize(
    ("text", "usable"), [("", False), ("one", False), ("a b c", True), ("go " * 30, False)]
)
def test_circles_and_nothing_are_no_text(text: str, *, usable: bool) -> None:
    assert is_varied(text.split()) is usable
