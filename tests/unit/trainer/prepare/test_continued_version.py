"""A job goes on from the version that another one has published: merged, as adapter, or as both."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from prepare_stage import asked, prepare_request, run_prepare, write_jsonl
from small_runs import a_train_config
from tuned_job import make_tuned_job, request_for
from tunesmith_api.modelversion import ModelVersion, ModelVersionSpec
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.sources.resolver import local_model_path
from tunesmith_engine.sources.version_manifest import MANIFEST
from tunesmith_engine.stages.catalog import COMPRESS, PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, digest_tree, local_path, path_of
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.compress.merge import save_merged
from tunesmith_trainer.models import load_model, load_tokenizer, load_tuned
from tunesmith_trainer.publish.stage import publish
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.export import export_tuned
from verified_job import SilentReporter, make_verified_job, publish_request

IDS = torch.arange(1, 20)[None]
QUESTIONS = tuple(f"What is wrong with device {number}?" for number in range(10))


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job as it stands before `publish`, with a real model of two layers and a real adapter."""
    made = make_tuned_job(tmp_path / "made")
    merged = load_tuned(
        request_for(made, COMPRESS.name, output=tmp_path / "merge"), dtype=torch.float32
    )
    root = make_verified_job(tmp_path / "first")
    for stage, name in ((PREPARE.name, "model"), (TRAIN.name, "tuned")):
        shutil.rmtree(root / stage / name, ignore_errors=True)
        (root / stage).mkdir(exist_ok=True)
        (made / name).rename(root / stage / name)
    for name in ("adapterParity", "adapterFingerprints"):
        (root / VERIFY.name / f"{name}.json").write_text("{}")
    compressed = root / COMPRESS.name / "compressed"
    save_merged(merged, compressed, tokenizer_folder=root / PREPARE.name / "model")
    return root


def published(job: Path, artifact: str, *, then: StageRequest | None = None) -> ModelVersionSpec:
    """Publish the job; `then` is the request instead, of a job that comes after it."""
    request = then or publish_request(job, output=job / "output", artifact=artifact)
    outcome = publish(request, SilentReporter())
    return ModelVersion.model_validate(outcome.facts["modelVersion"]).spec


def quantize(folder: Path) -> None:
    """Let the model in `folder` look like one that llm-compressor wrote."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "quantization_config": {"quant_method": "x"}}))


def prepared_from(root: Path, uri: str, **spec: Any) -> StageOutcome:
    root.mkdir(exist_ok=True)
    write_jsonl(root / "rows.jsonl", asked(*QUESTIONS))
    return run_prepare(prepare_request(root, model=uri, **spec))


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = load_model(folder, dtype=torch.float32)(IDS).logits
    return answer


def test_a_merged_version_is_the_base_of_the_next_job(job: Path, tmp_path: Path) -> None:
    version = published(job, "merged")

    outcome = prepared_from(tmp_path / "second", version.uri)

    model = local_path(outcome.artifacts[0])
    assert torch.equal(logits(model), logits(job / COMPRESS.name / "compressed"))
    assert outcome.facts["parentDigest"] == version.digest
    assert f"continues the version {version.digest}; the rate warms up again" in outcome.message
    # None of the version's documents: a later stage would publish them as the new model's.
    assert {path.name for path in model.iterdir()} <= {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip


@pytest.mark.parametrize("artifact", ["adapter", "both"])
def test_an_adapter_is_merged_into_its_base_first(job: Path, tmp_path: Path, artifact: str) -> None:
    """In fp32, then rounded once: to the very weights that a merged version has."""
    merged = logits(job / COMPRESS.name / "compressed")
    if artifact == "both":
        # The merged model beside the adapter is of no use then.
        quantize(job / COMPRESS.name / "compressed")
    version = published(job, artifact)

    outcome = prepared_from(tmp_path / "second", version.uri)

    assert torch.equal(logits(local_path(outcome.artifacts[0])), merged)
    assert outcome.facts["parentDigest"] == version.digest
    assert load_tokenizer(local_path(outcome.artifacts[0])).chat_template is not None


def test_the_shape_of_an_adapters_base_is_known_before_the_job_runs(
    job: Path, tmp_path: Path
) -> None:
    version = published(job, "adapter")
    source = prepare_request(tmp_path, model=version.uri).spec.model

    path = local_model_path(source, base=tmp_path, cache=tmp_path)

    assert path is not None
    assert read_model_facts(path) == read_model_facts(job / PREPARE.name / "model")


def test_the_next_version_names_the_one_that_it_continues(job: Path, tmp_path: Path) -> None:
    """Job 1 is published, job 2 is trained from it and published with its adapter."""
    first = published(job, "merged")
    before = digest_tree(path_of(first.uri))
    outcome = prepared_from(tmp_path / "second", first.uri)
    base = local_path(outcome.artifacts[0])
    config = a_train_config(training={"maxSteps": 1})
    model = build_trainable(base, config=config, device=torch.device("cpu"))
    export_tuned(model, base=base, base_uri=first.uri, output=tmp_path / "second")

    second = published(job, "both", then=after(outcome, job=job, tmp_path=tmp_path, first=first))

    assert second.digest != first.digest
    assert second.lineage.parent_digest == first.digest
    assert second.lineage.base_model == first.uri
    folder = path_of(second.uri)
    assert first.digest in (folder / "README.md").read_text()
    assert json.loads((folder / "lineage.json").read_text())["parentDigest"] == first.digest
    # What is published on a version is linked to its files, and must not write into them.
    assert digest_tree(path_of(first.uri)) == before


def after(
    outcome: StageOutcome, *, job: Path, tmp_path: Path, first: ModelVersionSpec
) -> StageRequest:
    """The request to publish the second job."""
    request = publish_request(job, output=tmp_path / "second" / "output", artifact="both")
    prepare, train = request.inputs[PREPARE.name], request.inputs[TRAIN.name]
    inputs = {
        **request.inputs,
        PREPARE.name: prepare.model_copy(
            update={
                "artifacts": outcome.artifacts,
                "facts": {**prepare.facts, "parentDigest": outcome.facts["parentDigest"]},
            }
        ),
        TRAIN.name: train.model_copy(
            update={"artifacts": [artifact_of("tuned", tmp_path / "second" / "tuned")]}
        ),
    }
    model = request.spec.model.model_copy(update={"uri": first.uri})
    spec = request.spec.model_copy(update={"model": model})
    return request.model_copy(update={"inputs": inputs, "spec": spec})


def test_a_base_of_adapters_is_no_version_of_its_own(job: Path, tmp_path: Path) -> None:
    adapter = published(job, "adapter").adapter
    assert adapter is not None

    outcome = prepared_from(tmp_path / "second", adapter.base_uri)

    assert outcome.facts["parentDigest"] is None
    assert torch.equal(
        logits(local_path(outcome.artifacts[0])), logits(job / PREPARE.name / "model")
    )


def test_a_version_may_get_another_chat_template(job: Path, tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    version = published(job, "merged")
    before = digest_tree(path_of(version.uri))
    root = tmp_path / "second"
    root.mkdir()
    write_jsonl(root / "rows.jsonl", [{"text": question} for question in QUESTIONS])

    outcome = run_prepare(prepare_request(root, model=version.uri, chat_template=template))

    assert load_tokenizer(local_path(outcome.artifacts[0])).chat_template == template
    assert digest_tree(path_of(version.uri)) == before


def test_a_quantized_version_is_refused_with_what_to_publish(job: Path, tmp_path: Path) -> None:
    quantize(job / COMPRESS.name / "compressed")
    version = published(job, "merged")

    with pytest.raises(BadInputError, match=r"quantized weights.*both.*base, hf://acme/base"):
        prepared_from(tmp_path / "second", version.uri)


def test_a_quantized_model_of_others_is_refused(job: Path, tmp_path: Path) -> None:
    model = job / PREPARE.name / "model"
    quantize(model)

    with pytest.raises(BadInputError, match=r"quantized weights.*bf16"):
        prepared_from(tmp_path / "second", model.as_uri())


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "lineage.json"])
def test_a_version_that_has_changed_is_refused(job: Path, tmp_path: Path, name: str) -> None:
    version = published(job, "merged")
    path = path_of(version.uri) / name
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b" ")

    with pytest.raises(BadInputError, match=f"{name} is not the file that was published"):
        prepared_from(tmp_path / "second", version.uri)


def test_an_adapter_without_its_base_is_refused(job: Path, tmp_path: Path) -> None:
    version = published(job, "adapter")
    shutil.rmtree(path_of(version.uri).parent / "bases")

    with pytest.raises(BadInputError, match=r"nothing was found at .*/bases/"):
        prepared_from(tmp_path / "second", version.uri)


def test_a_manifest_of_others_is_none_of_ours(job: Path, tmp_path: Path) -> None:
    model = job / PREPARE.name / "model"
    (model / MANIFEST).write_text('{"name": "an app"}')

    outcome = prepared_from(tmp_path / "second", model.as_uri())

    assert outcome.facts["parentDigest"] is None
