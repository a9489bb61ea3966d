"""`init`: whatever it is told, the manifest that it writes is sound and explains itself."""

import gzip
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.manifest import load_job
from tunesmith_cli.commands.init import columns_of, wishes_of
from tunesmith_cli.data_columns import columns_in
from tunesmith_cli.errors import CommandError
from tunesmith_cli.main import main
from tunesmith_cli.manifest_template import Wishes, manifest_text, name_for, uri_of
from tunesmith_engine.local.data_description import DataDescription


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("scheme", ["W8A8", "W4A16", "none"])
@pytest.mark.parametrize("columns", [{}, {"prompt": "q: 1", "completion": "a"}, {"messages": "x"}])
def test_every_choice_gives_a_sound_manifest(
    method: str, scheme: str, columns: dict[str, str]
) -> None:
    wishes = Wishes(
        name="yes",
        data="file://data/it%27s%20%22mine%22.csv",
        method=method,
        scheme=scheme,
        columns=columns,
    )

    job = load_job(manifest_text(wishes))

    # `yes` is a word of YAML; a name must stay one.
    assert (job.metadata.name, job.spec.output.model) == ("yes", "yes")
    assert job.spec.training.method == method
    assert job.spec.compression.quantize.scheme == scheme
    assert job.spec.dataset.columns == columns
    assert job.spec.dataset.train.uri == wishes.data


def test_the_manifest_says_what_its_parts_are_for() -> None:
    text = manifest_text(Wishes(name="tickets", data="file://tickets.jsonl"))

    assert text.count("#") > 12
    assert max(map(len, text.splitlines())) <= 110


def test_options_alone_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/My Tickets.csv").write_text("question,answer\na,b\n")
    given = ["--data", "data/My Tickets.csv", "--columns", "prompt=question,completion=answer"]

    assert main(["init", *given]) == 0

    assert "next  tunesmith plan job.yaml" in capsys.readouterr().out
    spec = load_job((tmp_path / "job.yaml").read_text()).spec
    assert spec.dataset.train.uri == "file://data/My%20Tickets.csv"
    assert (spec.dataset.format, spec.output.model) == ("promptCompletion", "my-tickets")
    assert main(["validate", "job.yaml"]) == 0


def test_what_is_not_said_is_asked_for() -> None:
    asked: list[tuple[str, str]] = []

    def ask(question: str, default: str) -> str:
        asked.append((question, default))
        return default or "s3://bucket/2026/tickets.jsonl"

    options = Namespace(
        file=Path("job.yaml"), data=None, base_model=None, name=None, method=None, scheme="none",
        columns=None,
    )  # fmt: skip
    wishes = wishes_of(options, ask=ask)

    assert (wishes.data, wishes.name) == ("s3://bucket/2026/tickets.jsonl", "tickets")
    assert [default for _, default in asked[1:]] == [
        "hf://HuggingFaceTB/SmolLM2-135M-Instruct", "tickets", "lora",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data", "none.jsonl"], "none.jsonl"),
        (["--data", "s3://b/x.jsonl", "--name", "My Model"], "'My Model' is no name"),
        (["--data", "s3://b/x.jsonl", "--columns", "prompt"], "--columns prompt: give NAME=COLUMN"),
        (["--data", "ftp://b/x.jsonl"], "spec.dataset.train.uri"),
        ([], "give --data; nobody can be asked without a terminal"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    assert main(["init", *given]) == 2

    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text("mine")
    given = ["init", "--data", "s3://b/x.jsonl"]

    assert main(given) == 2
    assert "give --force" in capsys.readouterr().err
    assert (tmp_path / "job.yaml").read_text() == "mine"

    assert main([*given, "--force"]) == 0
    assert (tmp_path / "job.yaml").read_text() != "mine"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("data/a.jsonl", "file://data/a.jsonl"),
        ("data/*.csv", "file://data/*.csv"),
        ("/elsewhere/a b.csv", "file:///elsewhere/a%20b.csv"),
        ("hf://a/b", "hf://a/b"),
        ("python://p/x.yml", "python://p/x.yml"),
    ],
)
def test_a_path_becomes_a_uri_that_begins_at_the_manifest(text: str, uri: str) -> None:
    assert uri_of(text, base=Path("/home/me"), here=Path("/home/me")) == uri


def test_a_path_is_meant_from_where_the_command_runs() -> None:
    base, here = Path("/home/me/jobs"), Path("/home/me")

    assert uri_of("jobs/a.jsonl", base=base, here=here) == "file://a.jsonl"
    assert uri_of("data/a.jsonl", base=base, here=here) == "file:///home/me/data/a.jsonl"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("file://data/My Tickets.v2.jsonl.gz", "my-tickets-v2"),
        ("s3://b/" + "x" * 60 + ".csv", "x" * 40),
        ("file://data/*.csv", "my-model"),
        ("python://p/tech_support.yml", "tech-support"),
    ],
)
def test_a_name_is_made_from_the_data(data: str, name: str) -> None:
    assert name_for(data) == name


def test_columns_are_pairs() -> None:
    assert columns_of("a=b, c = d") == {"a": "b", "c": "d"}
    with pytest.raises(CommandError):
        columns_of("a=")


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, *given: str) -> tuple[int, Path]:
    """How `init` without a terminal ends, and the manifest that it writes."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    return main(["init", "--name", "mine", *given]), folder / "job.yaml"


@pytest.mark.parametrize(
    ("name", "content", "form", "columns", "said"),
    [
        (
            "a.csv.gz",
            gzip.compress(b"Id;Question;Answer\n1;Is it on?;Yes.\n", mtime=0),
            "promptCompletion",
            {"prompt": "Question", "completion": "Answer"},
            "columns: Question is prompt, Answer is completion\nnot used: Id\n",
        ),
        (
            "a.jsonl",
            b'{"instruction": "Add.", "context": "1, 2", "response": "3"}\n',
            "alpaca",
            {"input": "context", "output": "response"},
            "columns: context is input, response is output\n",
        ),
        (
            "a.jsonl",
            b'{"messages": [{"role": "user", "content": "x"}], "source": "y"}\n',
            "messages",
            {},
            "rows of messages\nnot used: source\n",
        ),
    ],
)
def test_format_and_columns_are_told_by_the_data(
    name: str,
    content: bytes,
    form: str,
    columns: dict[str, str],
    *,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_bytes(content)

    code, manifest = written(tmp_path, monkeypatch, "--data", name)

    assert code == 0
    out = capsys.readouterr().out
    assert said in out
    assert f"data: {name}: " in out
    dataset = load_job(manifest.read_text()).spec.dataset
    assert (dataset.format, dataset.columns) == (form, columns)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            [],
            "a.csv has the columns Titel, Text, Lösung; no format has these. Name them: --columns",
        ),
        (["--columns", "prompt=Titel,completion=Losung"], "there is no column 'Losung': a.csv has"),
    ],
)
def test_columns_that_nothing_tells_have_to_be_named(
    columns: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.csv").write_text("Titel,Text,Lösung\na,b,c\n", encoding="utf-8")

    code, manifest = written(tmp_path, monkeypatch, "--data", "a.csv", *columns)

    assert (code, manifest.exists()) == (2, False)
    assert said in capsys.readouterr().err


def test_data_that_is_broken_has_its_manifest_and_a_word_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text("broken\n")

    code, manifest = written(tmp_path, monkeypatch, "--data", "a.jsonl")

    assert (code, manifest.exists()) == (0, True)
    assert "to mend first: a.jsonl:1: given a line of 6 characters" in capsys.readouterr().out


def test_preferences_are_trained_by_their_own_objective() -> None:
    job = load_job(manifest_text(Wishes(name="x", data="file://x.jsonl", format="preference")))

    assert job.spec.training.objective == "dpo"
    assert job.spec.training.optimizer.learning_rate == 5e-5


def test_columns_are_asked_for_where_somebody_can_answer() -> None:
    seen = DataDescription("a.csv", fields=("Titel", "Text", "Lösung"), problem="none has these")
    asked = iter(("Text", "Lösung"))

    found = columns_in(
        Dataset(train=DataSource(uri="file://a.csv")),
        look=lambda dataset: replace(
            seen, format="promptCompletion" if dataset.columns else None, unused=("Titel",)
        ),
        ask=lambda *_: next(asked),
    )

    assert (found.format, found.columns) == (
        "promptCompletion",
        {"prompt": "Text", "completion": "Lösung"},
    )
