"""Known faults are refused for certain, and equal tokens are told from different ones."""

from typing import Any

import pytest

from tunesmith_serving.verify.numerics import Kernels, rounds_activations, tie_for

SOUND = Kernels(attention="vec", two_products=False, exact_products=True)
OVERFLOWING = Kernels(attention="vec", two_products=False, exact_products=False)
W8A8: dict[str, Any] = {
    "quantization_config": {"config_groups": {"group_0": {"input_activations": {"num_bits": 8}}}}
}
W4A16: dict[str, Any] = {
    "quantization_config": {"config_groups": {"group_0": {"input_activations": None}}}
}


def test_sound_kernels_have_no_faults() -> None:
    assert SOUND.faults(rounds_activations=True) == []


def test_products_that_overflow_are_a_fault_of_models_that_need_them() -> None:
    (fault,) = OVERFLOWING.faults(rounds_activations=True)

    assert "int8 products overflow" in fault
    assert OVERFLOWING.faults(rounds_activations=False) == []


def test_the_amx_attention_kernel_is_a_fault() -> None:
    (fault,) = Kernels("amx", two_products=False, exact_products=True).faults(
        rounds_activations=False
    )

    assert "AMX" in fault


def test_the_name_tells_of_two_products() -> None:
    assert SOUND.name == "vec"
    assert Kernels("vec", two_products=True, exact_products=True).name == (
        "vec, int8 in two products"
    )


@pytest.mark.parametrize(
    ("config", "rounds"), [({}, False), (W4A16, False), (W8A8, True), ({"model_type": "x"}, False)]
)
def test_rounded_activations_are_told_from_the_config(
    config: dict[str, Any], *, rounds: bool
) -> None:
    assert rounds_activations(config) is rounds


@pytest.mark.parametrize(
    ("config", "dtype", "tie"),
    [
        ({}, "float32", 0.01),
        ({}, "bfloat16", 0.125),
        (W4A16, "bfloat16", 0.125),
        (W8A8, "float32", 0.25),
        (W8A8, "bfloat16", 0.25),
    ],
)
def test_coarser_arithmetic_has_wider_ties(config: dict[str, Any], dtype: str, tie: float) -> None:
    assert tie_for(config, dtype=dtype) == tie
