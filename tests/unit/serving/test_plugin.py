"""Which kernels are replaced, and that two int8 products make one."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
import torch

from tunesmith_serving import plugin
from tunesmith_serving.plugin import on_rows, split_weight, without_amx
from tunesmith_serving.processor import has_amx, read_flags

SAPPHIRE_RAPIDS = "flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8\n"
ZEN_3 = "flags\t\t: fpu avx2 fma vaes\n"


@pytest.mark.parametrize(
    ("cpuinfo", "amx"),
    [(SAPPHIRE_RAPIDS, True), (ZEN_3, False), ("Features\t: fp asimd bf16\n", False), ("", False)],
)
def test_amx_is_told_from_the_flags_of_the_processor(
    tmp_path: Path, cpuinfo: str, *, amx: bool
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: flags: none\n{cpuinfo}")

    assert has_amx(read_flags(path)) is amx


def test_a_system_without_cpuinfo_has_no_flags(tmp_path: Path) -> None:
    assert read_flags(tmp_path / "missing") == frozenset()


@pytest.mark.parametrize(
    ("chosen", "used"), [("amx", "vec"), ("vec", "vec"), ("vec16", "vec16"), ("neon", "neon")]
)
def test_only_the_amx_kernel_is_replaced(chosen: str, used: str) -> None:
    choose = Mock(return_value=chosen, __name__="choose")

    assert without_amx(choose)(torch.bfloat16, 128, head_size=64) == used
    choose.assert_called_once_with(torch.bfloat16, 128, head_size=64)


@pytest.fixture
def replacements() -> Iterator[Mock]:
    made = Mock()
    with (
        patch.object(plugin, "choose_vector_kernel", made.vector),
        patch.object(plugin, "flatten_int8_inputs", made.flattened),
        patch.object(plugin, "use_two_products", made.two_products),
    ):
        yield made


@pytest.mark.parametrize(
    ("flags", "exact", "vector", "two_products"),
    [
        ({"avx2"}, False, 0, 1),
        ({"avx2", "avx_vnni"}, True, 0, 0),
        ({"avx512_vnni", "amx_tile"}, True, 1, 0),
    ],
)
def test_each_fault_is_replaced_where_it_is(
    replacements: Mock, flags: set[str], vector: int, two_products: int, *, exact: bool
) -> None:
    with (
        patch.object(plugin, "read_flags", return_value=frozenset(flags)),
        patch.object(plugin, "is_exact", return_value=exact),
    ):
        plugin.register()

    assert replacements.vector.call_count == replacements.flattened.call_count == vector
    assert replacements.two_products.call_count == two_products


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4)])
def test_a_kernel_for_rows_gets_rows_whatever_it_is_handed(shape: tuple[int, ...]) -> None:
    def double(_kernel: object, _layer: object, x: torch.Tensor, _bias: object) -> torch.Tensor:
        assert x.dim() == 2
        return torch.cat([x, x], dim=1)

    x = torch.randn(*shape)

    assert torch.equal(on_rows(double)(None, None, x), torch.cat([x, x], dim=-1))


def test_nothing_is_replaced_or_asked_in_the_build_for_gpus(replacements: Mock) -> None:
    """It has none of the kernels, and vLLM does not start if a plugin raises."""
    with (
        patch.object(plugin, "installed_platform", return_value="gpu"),
        patch.object(plugin, "read_flags", return_value=frozenset({"amx_tile"})),
        patch.object(plugin, "is_exact", side_effect=AttributeError),
    ):
        plugin.register()

    assert replacements.mock_calls == []


def test_a_weight_is_twice_its_high_half_and_its_low_half() -> None:
    weight = torch.arange(-128, 128, dtype=torch.int8).reshape(2, 128).t()

    high, low = split_weight(weight)

    assert torch.equal(2 * high.int() + low.int(), weight.int())
    assert high.dtype == low.dtype == torch.int8
    assert (high.min(), high.max()) == (-64, 63)
    assert set(low.unique().tolist()) == {0, 1}
    assert high.stride() == weight.stride()


def test_neither_half_can_overflow_sixteen_bits() -> None:
    """A pair of products is added in 16 bits; activations come as 0 to 255."""
    assert 2 * 255 * 64 < 2**15


def test_vllm_finds_the_plugin() -> None:
    (found,) = entry_points(group="vllm.general_plugins", name="tunesmith")

    assert found.value == "tunesmith_serving.plugin:register"


def test_the_plugin_is_imported_without_vllm_or_torch() -> None:
    program = (
        "import sys, tunesmith_serving.plugin; "
        "sys.exit(bool({'torch', 'vllm'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
