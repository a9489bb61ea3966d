"""verify as the engine starts it, on a W8A8 model of 135M parameters in vLLM.

References come from `served_models`: transformers in float32, with weights and activations that are
rounded by hand.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prepare_stage import Prepared
from served_models import QUESTIONS, write_reference, write_w8a8
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.catalog import COMPRESS, VERIFY
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_serving.processor import has_amx, read_flags
from tunesmith_serving.settings import ServingSettings

SERVER = Path(__file__).parents[2] / ".venvs" / "server" / "bin" / "python"
HAS_VNNI = bool(read_flags() & {"avx512_vnni", "avx_vnni"})

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model, what it answers, and what another model would."""

    folder: Path
    reference: Path
    other_reference: Path


@pytest.fixture(scope="module")
def compressed(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    root = tmp_path_factory.mktemp("compressed")
    made = Compressed(root / "model", root / "reference.json", root / "other.json")
    write_w8a8(prepared.model, made.folder)
    write_reference(made.folder, made.reference)
    write_reference(made.folder, made.other_reference, noise=0.1)
    return made


def verified(
    attempt: Path,
    *,
    folder: Path,
    reference: Path,
    serving: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> StageResult:
    """The result of the stage, run as a process of the server environment."""
    attempt.mkdir(exist_ok=True)
    artifacts = [artifact_of("compressed", folder), artifact_of("reference", reference)]
    request = StageRequest(
        job="helpdesk",
        stage=VERIFY.name,
        key="k",
        attempt=1,
        spec=FineTuneJobSpec.model_validate(
            {
                "model": {"uri": "file:///model"},
                "dataset": {"train": {"uri": "file:///rows.jsonl"}},
                "output": {"model": "helpdesk"},
                "serving": {"maxModelLength": 512, **(serving or {})},
            }
        ),
        inputs={
            COMPRESS.name: StageResult(
                stage=COMPRESS.name,
                key="k",
                attempt=1,
                outcome="Succeeded",
                reason="Succeeded",
                artifacts=artifacts,
            )
        },
        output=str(attempt / "artifacts"),
        report=str(attempt / "progress.json"),
        result=str(attempt / "result.json"),
        base=str(attempt),
        cache=str(attempt),
        secrets=str(attempt),
        models=str(attempt),
    )
    path = attempt / "request.json"
    path.write_text(request.model_dump_json(by_alias=True))
    subprocess.run(
        [SERVER, "-m", "tunesmith_serving", "verify", path],
        env={**os.environ, **(environment or {})},
        check=False,
        timeout=600,
    )
    return StageResult.model_validate_json((attempt / "result.json").read_text())


def test_a_sound_model_is_proved_and_leaves_its_settings_and_fingerprints(
    compressed: Compressed, tmp_path: Path
) -> None:
    """It needs no C++ compiler: the image of the server has none."""
    result = verified(
        tmp_path,
        folder=compressed.folder,
        reference=compressed.reference,
        environment={"CXX": "/nonexistent/g++"},
    )

    assert result.outcome == "Succeeded", result.message
    assert result.facts["numPrompts"] == len(QUESTIONS)
    assert str(result.facts["kernel"]).startswith("vec")
    assert ServingSettings.model_validate(result.facts["settings"]).max_model_length == 512
    parity = json.loads((tmp_path / "artifacts" / "parity.json").read_text())
    assert parity["holds"] is True
    assert "reset your password" in parity["prompts"][2]["served"]
    fingerprints = json.loads((tmp_path / "artifacts" / "fingerprints.json").read_text())
    assert len(fingerprints["probes"]) == len(QUESTIONS)
    assert len(fingerprints["chats"]) == len(QUESTIONS)


def test_the_answers_of_other_weights_are_refused_with_their_numbers(
    compressed: Compressed, tmp_path: Path
) -> None:
    result = verified(tmp_path, folder=compressed.folder, reference=compressed.other_reference)

    assert result.outcome == "Failed"
    assert result.reason == "ServingParityFailed"
    assert not result.bad_input
    assert not result.retryable
    assert float(str(result.facts["meanLogprobDifference"])) > 0.25
    assert [each.name for each in result.artifacts] == ["parity", "fingerprints"]


@pytest.mark.skipif(HAS_VNNI and not has_amx(read_flags()), reason="no kernel is wrong here")
def test_kernels_that_are_wrong_on_this_processor_are_refused_without_the_plugin(
    compressed: Compressed, tmp_path: Path
) -> None:
    result = verified(
        tmp_path,
        folder=compressed.folder,
        reference=compressed.reference,
        environment={"VLLM_PLUGINS": "none"},
    )

    assert result.reason == "ServingParityFailed"
    assert "VLLM_PLUGINS" in result.message


@pytest.mark.long
def test_a_compiled_build_is_judged_by_what_it_answers(
    compressed: Compressed, tmp_path: Path
) -> None:
    result = verified(
        tmp_path,
        folder=compressed.folder,
        reference=compressed.reference,
        serving={"enforceEager": False},
    )

    parity = json.loads((tmp_path / "artifacts" / "parity.json").read_text())
    is_within = (
        parity["agreementInterval"][1] >= parity["minAgreement"]
        and parity["meanLogprobDifference"] <= parity["maxLogprobDifference"]
        and parity["brokenPrompts"] == []
    )
    assert result.facts["enforceEager"] is False
    assert (result.outcome == "Succeeded") is is_within
    assert is_within or "serving.enforceEager: true" in result.message
