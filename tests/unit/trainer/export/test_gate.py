"""What a format must keep, and what it may take."""

import math
from typing import Any

import pytest

from exported import exported_format
from tunesmith_api.finetunejob.export import DEFAULT_MAX_LOSS_RISE, PRECISIONS, Export
from tunesmith_api.reasons import Reason
from tunesmith_api.results import ExportedFormat
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.export.gate import larger_warning, refuse, require_finite

FORMATS = [{"format": "onnx", "precision": "int4"}]
FINDINGS = StageOutcome(message="measured")


def settings(**fields: Any) -> Export:
    return Export.model_validate({"formats": FORMATS, **fields})


def refused(*formats: ExportedFormat, **fields: Any) -> VerdictError:
    with pytest.raises(VerdictError) as caught:
        refuse(formats, settings(**fields), findings=lambda: FINDINGS)
    return caught.value


def test_a_format_within_its_bound_and_its_targets_is_kept() -> None:
    refuse(
        [exported_format()], settings(maxSize="90Mi", maxMemory="300Mi"), findings=lambda: FINDINGS
    )


def test_a_loss_that_rose_too_far_is_refused_with_what_was_measured() -> None:
    error = refused(exported_format(), exported_format(name="gguf-Q4_0", loss=2.21))

    assert error.reason is Reason.EXPORT_PARITY_FAILED
    assert error.message.startswith("gguf-Q4_0: the held-out loss rose by")
    assert "onnx-int4" not in error.message
    assert "export.gate.maxLossRise" in error.message
    assert error.findings is FINDINGS


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_refused(loss: float) -> None:
    with pytest.raises(VerdictError, match=r"^onnx-fp16: the loss .* is no number"):
        require_finite("onnx-fp16", [1.0, loss])


def test_fp32_has_to_say_what_transformers_says() -> None:
    exact = exported_format(name="onnx-fp32", precision="fp32", loss=2.0)

    error = refused(exact)

    assert error.message.startswith("onnx-fp32: 156 of 256 greedy tokens follow a difference")
    refuse([exact.model_copy(update={"differs": False})], settings(), findings=lambda: FINDINGS)


def test_an_engine_that_tokenizes_otherwise_is_refused() -> None:
    error = refused(exported_format(tokenizes_alike=False))

    assert error.message.startswith("onnx-int4: its engine tokenizes held-out prompts otherwise")


@pytest.mark.parametrize(("field", "value"), [("maxSize", "89Mi"), ("maxMemory", "299Mi")])
def test_a_target_that_is_missed_is_named(field: str, value: str) -> None:
    error = refused(exported_format(), **{field: value})

    assert error.reason is Reason.EXPORT_TARGET_MISSED
    assert f"{field}: {value}" in error.message


def test_a_format_larger_than_the_model_is_told() -> None:
    larger = larger_warning(exported_format(name="onnx-fp32", bytes=512 << 20))

    assert larger is not None
    assert "536,870,912 bytes, more than the model in bf16" in larger
    assert larger_warning(exported_format()) is None


def test_every_precision_has_a_bound_of_its_own() -> None:
    assert set(DEFAULT_MAX_LOSS_RISE) == {one for each in PRECISIONS.values() for one in each}
    assert settings().gate.bound_of("int4") == 0.2
    assert settings(gate={"maxLossRise": 0.0}).gate.bound_of("int4") == 0.0
