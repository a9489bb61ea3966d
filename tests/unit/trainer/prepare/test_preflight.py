"""What later stages would refuse after hours is refused by prepare, before anything is trained."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch

from prepare_stage import (
    SilentReporter,
    asked,
    prepare_request,
    result_of,
    run_prepare,
    write_jsonl,
)
from small_models import make_tiny_model
from tunesmith_api.reasons import Reason
from tunesmith_engine import capacity
from tunesmith_engine.estimates import estimate
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import (
    GivenMemory,
    StageFunction,
    StageOutcome,
    StageRequest,
)
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.stage import evaluate
from tunesmith_trainer.rehearse.stage import rehearse
from tunesmith_trainer.train.stage import train

QUESTIONS = tuple(f"What is wrong with device {number}?" for number in range(10))


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever these tests run."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("model")).as_uri()


def _prepared(root: Path, rows: list[Any], *, model: str, **spec: Any) -> StageOutcome:
    write_jsonl(root / "rows.jsonl", rows)
    return run_prepare(prepare_request(root, model=model, **spec))


def _refused(root: Path, rows: list[Any], *, model: str, **spec: Any) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        _prepared(root, rows, model=model, **spec)
    return caught.value


def test_a_job_larger_than_the_memory_is_refused(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 1 << 20)

    error = _refused(tmp_path, asked(*QUESTIONS), model=model)

    assert error.reason is Reason.MEMORY_ESTIMATE_EXCEEDED


def test_memory_is_judged_by_the_longest_row_that_there_is(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"sequenceLength": 512, "batch": {"size": 4096, "microBatchSize": 4096}}
    spec = prepare_request(tmp_path, model=model, training=training).spec
    facts = read_model_facts(Path(urlsplit(model).path))
    enough = estimate(spec, facts, longest_row=100).peak_memory_bytes
    monkeypatch.setattr(capacity, "memory_bytes", lambda: enough)

    short = _prepared(tmp_path, asked(*QUESTIONS), model=model, training=training)
    rows = asked(*QUESTIONS, "Why? " * 40)
    error = _refused(tmp_path, rows, model=model, training=training)

    rows_of_short = TokenRows.load(local_path(short.artifacts[1]) / "train.safetensors")
    longest = max(rows_of_short.lengths.tolist())
    assert short.facts["longestRow"] in range(longest, 101)
    assert error.reason is Reason.MEMORY_ESTIMATE_EXCEEDED
    assert "what fits: training.batch.microBatchSize" in error.message


def test_in_a_cluster_training_is_judged_by_what_its_pod_gets_and_not_by_this_one(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This pod has just enough for prepare itself."""
    facts = read_model_facts(Path(urlsplit(model).path))
    write_jsonl(tmp_path / "rows.jsonl", asked(*QUESTIONS))
    request = prepare_request(tmp_path, model=model)
    own = estimate(request.spec, facts).memory_bytes[PREPARE.name]
    monkeypatch.setattr(capacity, "memory_bytes", lambda: own)

    def given(size_bytes: int) -> StageRequest:
        memory = GivenMemory(size_bytes=size_bytes, given_by="resources.memory: 1Mi")
        return request.model_copy(update={"memory": {TRAIN.name: memory}})

    judged = run_prepare(given(1 << 40))
    unknown = run_prepare(request.model_copy(update={"memory": {}}))
    with pytest.raises(BadInputError) as small:
        run_prepare(given(1 << 20))
    with pytest.raises(BadInputError) as here:
        run_prepare(request)

    assert "memory" not in judged.message
    assert "train will ask for its estimate" in unknown.message
    assert small.value.reason is Reason.MEMORY_ESTIMATE_EXCEEDED
    assert "resources.memory: 1Mi gives it 0.0 GiB" in small.value.message
    assert "this machine has" in here.value.message


def test_in_a_cluster_prepare_itself_needs_the_memory_of_its_own_pod(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 1 << 20)
    write_jsonl(tmp_path / "rows.jsonl", asked(*QUESTIONS))
    request = prepare_request(tmp_path, model=model).model_copy(update={"memory": {}})

    with pytest.raises(BadInputError, match="prepare is estimated to take"):
        run_prepare(request)


def test_a_job_larger_than_the_free_disk_is_refused(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "free_disk_bytes", lambda _: 1)

    error = _refused(tmp_path, asked(*QUESTIONS), model=model)

    assert error.reason is Reason.DISK_ESTIMATE_EXCEEDED


def test_a_secret_that_only_publishing_needs_is_missed_before_training(
    tmp_path: Path, model: str
) -> None:
    output = {"model": "tiny", "uri": "s3://bucket/models", "secretRef": {"name": "store"}}
    error = _refused(tmp_path, asked(*QUESTIONS), model=model, output=output)

    assert error.reason == Reason.SECRET_NOT_FOUND
    assert error.message.startswith("output.secretRef: secret 'store'")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"output": {"model": "m", "uri": "s3://b/models", "secretRef": {"name": "half"}}},
            "output.secretRef: secret 'half' has no key AWS_SECRET_ACCESS_KEY",
        ),
        (
            {
                "evaluation": {
                    "judge": {
                        "endpoint": {
                            "url": "https://api.example.com/v1",
                            "model": "m",
                            "secretRef": {"name": "half"},
                        }
                    }
                }
            },
            "evaluation.judge.endpoint.secretRef: secret 'half' has no key api-key",
        ),
        (
            {"evaluation": {"generalText": {"uri": "s3://b/x", "secretRef": {"name": "half"}}}},
            "evaluation.generalText.secretRef: secret 'half' has no key AWS_SECRET_ACCESS_KEY",
        ),
    ],
)
def test_a_key_that_only_later_stages_need_is_missed_before_training(
    tmp_path: Path, model: str, spec: dict[str, Any], message: str
) -> None:
    secret = tmp_path / "secrets/half"
    secret.mkdir(parents=True)
    (secret / "AWS_ACCESS_KEY_ID").write_text("a")

    error = _refused(tmp_path, asked(*QUESTIONS), model=model, **spec)

    assert error.reason is Reason.SECRET_NOT_FOUND
    assert error.message.startswith(message)


def test_an_output_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, model: str
) -> None:
    output = {"model": "tiny", "uri": "file://rows.jsonl/models"}

    error = _refused(tmp_path, asked(*QUESTIONS), model=model, output=output)

    assert error.reason is Reason.PUBLISH_FAILED
    assert error.message.startswith("output.uri: file://")
    assert "rows.jsonl is no folder" in error.message


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (
            {"compression": {"quantize": {"scheme": "W4A16", "groupSize": 128}}},
            "spec.compression.quantize.groupSize: W4A16 needs layers whose columns groups of 128",
        ),
        (
            {"training": {"lora": {"targetModules": ["query"]}}},
            "training.lora.targetModules: the model has no linear module query",
        ),
        (
            {"training": {"lora": {"targetModules": ["q_proj", "lm_head"]}}},
            "training.lora.targetModules: lm_head is the model's head and its embedding in one",
        ),
        (
            {"training": {"freeze": {"modules": ["*.mpl"]}}},
            "training.freeze.modules: *.mpl matches no module of this model; near are *.mlp",
        ),
        (
            {"training": {"method": "full", "freeze": {"layers": 3}}},
            "training.freeze.layers: 3 layers, but the model has 2",
        ),
        (
            {"training": {"freeze": {"layers": 2}}},
            "training.freeze: nothing is left to train",
        ),
    ],
)
def test_what_later_stages_cannot_do_to_the_model_is_refused_before_training(
    tmp_path: Path, model: str, spec: dict[str, Any], field: str
) -> None:
    error = _refused(tmp_path, asked(*QUESTIONS), model=model, **spec)

    assert error.reason is Reason.INVALID_SPEC
    assert error.message.startswith(field)


@pytest.mark.parametrize(
    "spec",
    [
        {"compression": {"quantize": {"scheme": "W4A16", "groupSize": 64}}},
        {"training": {"lora": {"targetModules": ["q_proj"]}}},
        {"training": {"method": "full", "lora": {"targetModules": ["query"]}}},
    ],
)
def test_what_later_stages_can_do_to_the_model_is_let_through(
    tmp_path: Path, model: str, spec: dict[str, Any]
) -> None:
    _prepared(tmp_path, asked(*QUESTIONS), model=model, **spec)


@pytest.mark.usefixtures("without_gpu")
def test_fp8_needs_a_gpu_here_or_one_that_the_job_asks_for(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = {"compression": {"quantize": {"scheme": "FP8"}}}

    error = _refused(tmp_path, asked(*QUESTIONS), model=model, **eight)
    monkeypatch.setattr(capacity, "_nvidia_memory", lambda: [80 << 30])
    _prepared(tmp_path, asked(*QUESTIONS), model=model, resources={"gpusPerWorker": 1}, **eight)

    assert error.reason is Reason.RESOURCES_UNAVAILABLE
    assert error.message.startswith("spec.compression.quantize.scheme: FP8 runs on GPUs only")


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("stage", [rehearse, train, evaluate])
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"compression": {"quantize": {"scheme": "FP8"}}}, Reason.RESOURCES_UNAVAILABLE),
        (
            {"compression": {"quantize": {"scheme": "W4A16", "groupSize": 128}}},
            Reason.INVALID_SPEC,
        ),
        (
            {"output": {"model": "tiny", "uri": "s3://b/models", "secretRef": {"name": "store"}}},
            Reason.SECRET_NOT_FOUND,
        ),
    ],
)
def test_what_was_prepared_under_other_wishes_is_refused_by_the_next_stage_that_runs(
    tmp_path: Path, model: str, stage: StageFunction, spec: dict[str, Any], reason: Reason
) -> None:
    """As after `--until prepare` with W8A8: the key of prepare does not tell of the scheme."""
    dataset = {"train": {"uri": "file://rows.jsonl"}, "replay": {"selfSynthesis": {"rows": 10}}}
    outcome = _prepared(tmp_path, asked(*QUESTIONS), model=model, dataset=dataset)
    request = prepare_request(tmp_path, model=model, dataset=dataset, **spec)
    inputs = {PREPARE.name: result_of(outcome)}

    with pytest.raises(BadInputError) as refused:
        stage(request.model_copy(update={"inputs": inputs}), SilentReporter())

    assert refused.value.reason is reason


@pytest.mark.skipif(find_spec("adlfs") is not None, reason="the driver is installed here")
def test_a_driver_that_only_publishing_needs_is_missed_before_training(
    tmp_path: Path, model: str
) -> None:
    output = {"model": "tiny", "uri": "abfs://models/tiny"}

    error = _refused(tmp_path, asked(*QUESTIONS), model=model, output=output)

    assert error.reason is Reason.ENVIRONMENT_MISSING
    assert error.message.startswith("output: abfs:// needs the package adlfs")
