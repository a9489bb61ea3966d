"""What people write is read strictly, and refused with file, line, rule and remedy."""

from pathlib import Path

import pytest

from tunesmith_api.manifest import ManifestError, load_job, read_manifest
from tunesmith_api.yaml_io import MAX_CHARACTERS

SMALLEST = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: helpdesk}
spec:
  model: {uri: "hf://HuggingFaceTB/SmolLM2-135M-Instruct"}
  dataset: {train: {uri: "s3://tickets/2026-11.jsonl"}}
  output: {model: helpdesk}
"""


def refused(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load_job(text, source="job.yaml")
    return str(caught.value).splitlines()


def test_smallest_job_is_read() -> None:
    """Three sources are enough; everything else has a default."""
    job = load_job(SMALLEST)

    assert job.metadata.name == "helpdesk"
    assert job.spec.training.lora.rank == 16
    assert job.spec.evaluation.gates is None


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            "training: {lorra: {rank: 8}}",
            "spec.training.lorra: unknown field; did you mean 'lora'?",
        ),
        (
            "training: {wisdom: 8}",
            (
                "spec.training.wisdom: unknown field; known here: method, objective, dpo, lora, "
                "optimizer, schedule, batch, freeze, epochs, maxSteps, sequenceLength, precision, "
                "compile, parallelism, evaluateEverySteps"
            ),
        ),
        (
            "training: {max_steps: 8}",
            "spec.training.max_steps: unknown field; did you mean 'maxSteps'?",
        ),
        (
            "training: {rank: 8}",
            "spec.training.rank: unknown field; did you mean spec.training.lora.rank?",
        ),
        ("trust_remote_code: true", "spec.trust_remote_code: unknown field; known here: model, "),
        (
            "training: {method: Lora}",
            "spec.training.method: 'Lora' is none of lora, full; did you mean 'lora'?",
        ),
        (
            "compression: {quantize: {scheme: w8a8}}",
            (
                "spec.compression.quantize.scheme: 'w8a8' is none of none, W8A8, W8A16, W4A16, "
                "FP8; did you mean 'W8A8'?"
            ),
        ),
        (
            "compression: {quantize: {scheme: W4A16, groupSize: 48}}",
            "spec.compression.quantize.groupSize: 48 is none of 32, 64, 128; choose one of them",
        ),
        (
            'training: {epochs: "3"}',
            "spec.training.epochs: '3' is text, not a number; leave out the quotes",
        ),
        (
            "training: {maxSteps: 1.5}",
            (
                "spec.training.maxSteps: 1.5 is a number, not a whole number; "
                "docs/reference/finetunejob.md says what it takes"
            ),
        ),
        (
            "training: fast",
            (
                "spec.training: 'fast' is text, not a mapping of fields; "
                "docs/reference/finetunejob.md says what it takes"
            ),
        ),
        (
            "dataset: {train: {uri: s3://t}, columns: {prompt: 3}}",
            "3 is a whole number, not text; ",
        ),
        (
            "training: {seed: -1}",
            "spec.training.seed: -1 is too small: at least 0 is needed; raise it",
        ),
        (
            "training: {optimizer: {learningRate: 3}}",
            ".learningRate: 3 is too large: at most 1.0 is allowed; lower it",
        ),
        (
            "training: {optimizer: {maxGradNorm: .nan}}",
            ".maxGradNorm: NaN is no number to count with; write a finite one",
        ),
        (
            "training: {optimizer: {learningRate: 0}}",
            ".learningRate: 0 is too small: more than 0.0 is needed; raise it",
        ),
        (
            "training: {lora: {targetModules: []}}",
            "what is given (0 entries) is too little: at least 1 are needed; add some, or",
        ),
        (
            "model: {uri: ./weights}",
            (
                "spec.model.uri: './weights' is no place to read from; start it with hf://, s3://, "
                "gs://, https://, file:// or python://, and write spaces as %20"
            ),
        ),
        (
            "output: {model: helpdesk, uri: 'https://models'}",
            (
                "spec.output.uri: 'https://models' is no place to write to; start it with hf://, "
                "oci://, s3://, gs://, abfs://, az:// or file://, and write spaces as %20"
            ),
        ),
        (
            "output: {}",
            (
                "spec.output.model: required, but not given; add it "
                "(docs/reference/finetunejob.md says what it takes)"
            ),
        ),
        (
            "output: {model: Help_Desk}",
            (
                "spec.output.model: 'Help_Desk' breaks the form of a name: use a-z, 0-9 and - "
                "only, starting and ending with a letter or digit"
            ),
        ),
        (
            "evaluation: {gates: [{max: 1e-4}, null]}",
            "spec.evaluation.gates[1]: null is empty, not a mapping of fields; ",
        ),
        (
            "training: {epochs: 1, maxSteps: 3}",
            (
                "spec.training.maxSteps: epochs and maxSteps both say when training ends; "
                "give one of them"
            ),
        ),
    ],
)
def test_a_fault_is_named_with_its_line_and_remedy(line: str, complaint: str) -> None:
    """One fault gives one line: file, line, field, what was given, the rule, what to do."""
    field = line.split(":", maxsplit=1)[0]
    kept = [each for each in SMALLEST.splitlines() if not each.startswith(f"  {field}:")]
    text = "\n".join([*kept, f"  {line}"])

    found = refused(text)

    assert len(found) == 1
    assert found[0].startswith(f"job.yaml:{len(kept) + 1}: spec.")
    assert complaint in found[0]


def test_every_problem_is_listed_in_the_order_of_lines() -> None:
    """Nobody mends a manifest one error at a time."""
    text = SMALLEST + "  training:\n    lorra: {}\n    seed: one\n  suspend: maybe\n  speed: 3\n"

    found = refused(text)

    assert [line.split(": ")[0] for line in found] == [f"job.yaml:{n}" for n in (9, 10, 11, 12)]


def test_a_missing_field_is_shown_where_it_belongs() -> None:
    """The line is that of the record around it."""
    assert refused(SMALLEST.replace("train: {", "train: {xuri: "))[0].startswith("job.yaml:6")


@pytest.mark.parametrize(
    ("given", "instead", "complaint"),
    [
        (
            "kind: FineTuneJob",
            "kind: FinetuneJob",
            "job.yaml:2: kind: 'FinetuneJob' is not FineTuneJob; did you mean 'FineTuneJob'?",
        ),
        (
            "kind: FineTuneJob\n",
            "",
            "job.yaml:1: kind: required, but not given; write FineTuneJob",
        ),
        (
            "kind: FineTuneJob",
            "kind: Pod",
            "job.yaml:2: kind: 'Pod' is not FineTuneJob; write FineTuneJob",
        ),
        (
            "tunesmith.dev/v1alpha1",
            "tunesmith.dev/v1",
            (
                "job.yaml:1: apiVersion: 'tunesmith.dev/v1' is not tunesmith.dev/v1alpha1; "
                "did you mean 'tunesmith.dev/v1alpha1'?"
            ),
        ),
    ],
)
def test_another_kind_of_object_is_refused_before_its_fields(
    given: str, instead: str, complaint: str
) -> None:
    """A stranger's fields are no misspelt fields of ours."""
    text = SMALLEST.replace(given, instead, 1) + "  nonsense: 1\n"

    assert refused(text) == [complaint]


def test_what_a_server_adds_is_accepted() -> None:
    """`kubectl get -o yaml` gives a manifest that runs on a laptop as it is."""
    text = SMALLEST.replace(
        "{name: helpdesk}",
        "{name: helpdesk, namespace: ml, uid: 7f, generation: 3, resourceVersion: '5', "
        "creationTimestamp: 2026-11-24T10:00:00Z, labels: {app.kubernetes.io/name: helpdesk}, "
        "annotations: {example.com/note: 'any text'}, managedFields: [{manager: kubectl}], "
        "finalizers: [a/b], ownerReferences: []}",
    )

    job = load_job(text + "status: {phase: Nonsense}\n")

    assert job.metadata.namespace == "ml"
    assert job.metadata.labels == {"app.kubernetes.io/name": "helpdesk"}
    assert job.status is None


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("{name: Help}", "metadata.name: 'Help' breaks the form of a name"),
        ("{name: a.b}", "metadata.name: 'a.b' breaks the form of a name"),
        ("{nmae: helpdesk}", "metadata.nmae: unknown field; did you mean 'name'?"),
        ("{name: a, labels: {a b: c}}", "metadata.labels.a b: 'a b' is no label's name"),
        ("{name: a, labels: {a: 'b c'}}", "metadata.labels.a: 'b c' is no label's value"),
        ("{name: a, labels: {a: 3}}", "metadata.labels.a: 3 is a whole number, not text"),
    ],
)
def test_metadata_follows_the_rules_of_kubernetes(metadata: str, complaint: str) -> None:
    """What the API server would refuse is refused here."""
    found = refused(SMALLEST.replace("{name: helpdesk}", metadata))

    assert any(complaint in line for line in found)


def test_null_means_not_given() -> None:
    """As for the API server: the default takes its place."""
    job = load_job(SMALLEST + "  training: {epochs: null, seed: ~, lora: null}\n")

    assert job.spec.training.lora.rank == 16


def test_null_under_a_name_of_the_users_own_is_refused() -> None:
    """Nothing stands in for it, so it cannot be left out unseen."""
    text = SMALLEST.replace("dataset: {", "dataset: {columns: {prompt: null}, ")

    assert "spec.dataset.columns.prompt: null is empty, not text" in refused(text)[0]


def test_python_names_are_no_field_names() -> None:
    """A manifest says secretRef; secret_ref would be refused by the API server."""
    found = refused(SMALLEST.replace("model: {", "model: {chat_template: x, ", 1))

    assert found == [
        "job.yaml:5: spec.model.chat_template: unknown field; did you mean 'chatTemplate'?"
    ]


def test_a_file_is_read_with_or_without_byte_order_mark(tmp_path: Path) -> None:
    """Windows editors put a mark first."""
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())

    assert load_job(read_manifest(path)) == load_job(SMALLEST)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read (No such file or directory); check the path of the manifest"),
        (SMALLEST.encode("utf-16"), "1: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"kind: x\nname: caf\xe9\n", "2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"#" * (4 * MAX_CHARACTERS + 1), "2,000,001 bytes; a manifest has at most 2,000,000"),
    ],
    ids=["missing", "utf-16", "latin-1", "too large"],
)
def test_a_file_that_is_no_text_is_refused(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    """The error names the file, and the line where there is one."""
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ManifestError) as caught:
        read_manifest(path)

    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    """The error says so instead of a stack trace."""
    with pytest.raises(ManifestError, match="Is a directory"):
        read_manifest(tmp_path)
