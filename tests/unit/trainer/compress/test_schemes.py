"""Which scheme fits which layers and machine, and which comes next."""

import pytest

from tunesmith_api.finetunejob.compression import (
    DEFAULT_MIN_RECOVERY,
    Compression,
    CompressionGate,
    Quantize,
)
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.compress.recovery_gate import required_recovery
from tunesmith_trainer.compress.schemes import (
    SCHEMES,
    group_size_for,
    refuse_unrunnable,
    refuse_unscalable,
)


@pytest.mark.parametrize(
    ("widths", "size"),
    [([4096, 11008], 128), ([576, 1536], 64), ([576, 1536, 96], 32)],
)
def test_groups_are_the_largest_that_divide_every_layer(widths: list[int], size: int) -> None:
    assert group_size_for(Quantize(scheme="W4A16"), in_features=widths) == size


def test_a_group_size_that_was_asked_for_is_taken_if_it_fits() -> None:
    wanted = Quantize(scheme="W4A16", group_size=32)

    assert group_size_for(wanted, in_features=[4096]) == 32


def test_a_group_size_that_does_not_fit_is_refused_with_the_layers_widths() -> None:
    wanted = Quantize(scheme="W4A16", group_size=128)

    with pytest.raises(BadInputError, match=r"groups of 128 .* layers of 576, 1536 columns"):
        group_size_for(wanted, in_features=[576, 1536])


def test_layers_that_no_group_divides_are_refused() -> None:
    with pytest.raises(BadInputError, match="128 or 64 or 32"):
        group_size_for(Quantize(scheme="W4A16"), in_features=[100])


def test_fp8_without_a_gpu_is_refused_and_w8a8_is_offered() -> None:
    with pytest.raises(BadInputError, match="choose W8A8") as caught:
        refuse_unrunnable(Compression(quantize=Quantize(scheme="FP8")), has_gpu=False)

    assert caught.value.reason == Reason.RESOURCES_UNAVAILABLE


def test_awq_is_refused_where_nobody_knows_what_its_scales_change() -> None:
    wanted = Quantize(scheme="W4A16", algorithm="awq")

    refuse_unscalable(wanted, architecture="LlamaForCausalLM")
    with pytest.raises(BadInputError, match=r"algorithm: awq .* GPT2LMHeadModel.* choose gptq"):
        refuse_unscalable(wanted, architecture="GPT2LMHeadModel")


def test_every_other_scheme_runs_without_a_gpu() -> None:
    for scheme in SCHEMES.values():
        refuse_unrunnable(Compression(quantize=Quantize(scheme=scheme.name)), has_gpu=True)
        if not scheme.needs_gpu:
            refuse_unrunnable(Compression(quantize=Quantize(scheme=scheme.name)), has_gpu=False)


def test_going_wider_ends_at_none() -> None:
    for scheme in SCHEMES.values():
        seen = [scheme.name]
        while wider := SCHEMES[seen[-1]].wider:
            assert wider not in seen
            seen.append(wider)
        assert seen[-1] == "none"


def test_the_bound_of_the_manifest_replaces_that_of_every_scheme() -> None:
    asked = Compression(quantize=Quantize(scheme="W4A16"), gate=CompressionGate(min_recovery=0.5))

    assert required_recovery("W4A16", asked) == required_recovery("W8A8", asked) == 0.5


@pytest.mark.parametrize("planned", [None, 0.97])
def test_the_default_of_the_scheme_asked_for_does_not_bind_a_wider_one(
    planned: float | None,
) -> None:
    asked = Compression(
        quantize=Quantize(scheme="W4A16"), gate=CompressionGate(min_recovery=planned)
    )

    assert required_recovery("W4A16", asked) == 0.97
    assert required_recovery("W8A8", asked) == 0.99


def test_every_scheme_has_a_default_bound() -> None:
    assert DEFAULT_MIN_RECOVERY.keys() == SCHEMES.keys()
