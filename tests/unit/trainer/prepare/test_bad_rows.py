"""Rows that break a rule: refused, or skipped and listed up to `dataset.maxBadRows`."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prepare_stage import asked, load_outcome, prepare_request, run_prepare
from small_models import CHATML, make_tiny_model
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.rows import Problems

GOOD = asked(*(f"What is wrong with device {number}?" for number in range(6)))
LINES = [json.dumps(row) for row in GOOD]
SECRET = "hush"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def _prepared(root: Path, *, model: str, allowed: int, name: str, **spec: Any) -> StageOutcome:
    dataset = {"train": {"uri": f"file://{name}"}, "maxBadRows": allowed}
    return run_prepare(prepare_request(root, model=model, dataset=dataset, **spec))


def _card(outcome: StageOutcome) -> Any:
    return json.loads(local_path(outcome.artifacts[2]).read_text(encoding="utf-8"))


def _broken_jsonl() -> bytes:
    broken = [f'{{"prompt": "{SECRET}', json.dumps({"prompt": SECRET}), json.dumps([SECRET, 1])]
    lines = [broken[0], *LINES[:3], broken[1], *LINES[3:], broken[2]]
    return "\n".join(lines).encode() + b'\n{"prompt": "\xff", "completion": "x"}\n'


def _broken_csv() -> bytes:
    rows = [f"{row['prompt']};{row['completion']}" for row in GOOD]
    return "\n".join(["prompt;completion", SECRET, *rows, f"{SECRET};b;c"]).encode()


def _broken_parquet() -> bytes:
    rows = [*GOOD, {"prompt": None, "completion": SECRET}]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


FILES = [
    ("rows.jsonl.gz", gzip.compress(_broken_jsonl()), [1, 5, 9, 10]),
    ("rows.jsonl.zst", bytes(pa.Codec("zstd").compress(_broken_jsonl())), [1, 5, 9, 10]),
    ("rows.csv", _broken_csv(), [2, 9]),
    ("rows.parquet", _broken_parquet(), [7]),
]


@pytest.mark.parametrize(("name", "content", "bad"), FILES, ids=[name for name, *_ in FILES])
def test_bad_rows_are_skipped_and_listed_without_their_words(
    name: str, content: bytes, bad: list[int], tmp_path: Path, model: str
) -> None:
    (tmp_path / name).write_bytes(content)

    outcome = _prepared(tmp_path, model=model, allowed=len(bad), name=name)

    card = _card(outcome)
    told = json.dumps([card["badRows"], outcome.warnings, outcome.message])
    assert {row["source"] for row in card["badRows"]} == {f"{name}:{line}" for line in bad}
    assert all(row["rule"] for row in card["badRows"])
    assert SECRET not in told
    assert (card["rows"]["removed"]["bad"], card["rows"]["kept"]) == (len(bad), len(GOOD))
    assert outcome.facts["removed"]["bad"] == len(bad)  # type: ignore[index,call-overload]
    assert f"{len(bad)} bad" in outcome.message
    skipped = f"{len(bad)} bad row(s) skipped ({name}:"
    assert any(warning.startswith(skipped) for warning in outcome.warnings)


@pytest.mark.parametrize("allowed", [0, 3])
def test_one_bad_row_more_refuses_the_data_with_their_lines(
    allowed: int, tmp_path: Path, model: str
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(_broken_jsonl())

    with pytest.raises(BadInputError) as caught:
        _prepared(tmp_path, model=model, allowed=allowed, name="rows.jsonl")

    assert "rows.jsonl:1: given" in caught.value.message
    assert ("dataset.maxBadRows is 3" in caught.value.message) == (allowed > 0)


def test_a_row_that_the_template_refuses_is_bad_and_not_overlong(
    tmp_path: Path, model: str
) -> None:
    strict = "{% if messages[0].content == 'No.' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    rows = [*GOOD, *asked("No."), *asked("Why?", answer="So <|im_end|> what.")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    outcome = run_prepare(
        prepare_request(
            tmp_path,
            model=model,
            chat_template=strict,
            dataset={"train": {"uri": "file://rows.jsonl"}, "maxBadRows": 2},
        )
    )

    assert _card(outcome)["rows"]["removed"] == {
        "duplicates": 0, "empty": 0, "overlong": 0, "inValidation": 0, "cleaned": 0,
        "bad": 2,
    }  # fmt: skip
    assert len(load_outcome(tmp_path, outcome, model=model).records("train")) == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.csv", b'prompt,completion\na,"b" c\n'), ("rows.jsonl.gz", b"\x1f\x8bxx"),
     ("rows.json", b'[{"prompt": "a"')],
)  # fmt: skip
def test_a_file_that_is_damaged_as_a_whole_is_no_bad_row(
    name: str, content: bytes, tmp_path: Path, model: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadInputError, match=f"^{name}"):
        _prepared(tmp_path, model=model, allowed=1000, name=name)


@settings(max_examples=50)
@given(
    allowed=st.integers(0, 8),
    bad=st.integers(0, 12),
    broken_files=st.integers(0, 1),
)
def test_data_is_refused_exactly_where_more_is_wrong_than_may_be(
    allowed: int, bad: int, broken_files: int
) -> None:
    problems = Problems(max_bad_rows=allowed)
    for number in range(bad):
        problems.add(f"a:{number}", given="x", rule="y", remedy="z")
    for _ in range(broken_files):
        problems.add("b", given="x", rule="y", remedy="z", is_bad_row=False)

    try:
        problems.refuse()
    except BadInputError:
        assert bad > allowed or broken_files
    else:
        assert bad <= allowed
        assert not broken_files
        assert [row.source for row in problems.bad_rows] == [f"a:{at}" for at in range(bad)]
