"""What training asks of its device, whoever made it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from small_runs import a_train_config
from tunesmith_trainer import devices

CPU = torch.device("cpu")


def a_device(monkeypatch: pytest.MonkeyPatch, **module: Any) -> torch.device:
    """An accelerator whose module answers so; torch knows the name `xpu` without one."""
    monkeypatch.setattr(torch, "get_device_module", lambda _: SimpleNamespace(**module))
    return torch.device("xpu", 0)


def test_without_an_accelerator_it_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)

    assert devices.current_device() == CPU


def test_a_device_that_says_nothing_of_bf16_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.has_bf16(CPU)
    assert devices.has_bf16(a_device(monkeypatch))
    assert not devices.has_bf16(a_device(monkeypatch, is_bf16_supported=lambda: False))


def test_a_card_that_would_only_emulate_bf16_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation: including_emulation
    )

    assert not devices.has_bf16(torch.device("cuda", 0))


def test_only_a_run_in_bf16_rounds_products_of_fp32() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        devices.use_tensor_cores("bf16")
        rounded = torch.get_float32_matmul_precision()
        devices.use_tensor_cores("fp32")
        exact = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision(before)

    assert (rounded, exact) == ("high", "highest")


def test_one_worker_has_nothing_to_shard() -> None:
    training = {"parallelism": "fsdp"}

    assert not a_train_config(training=training).is_sharded
    assert a_train_config(training=training, resources={"workers": 2}).is_sharded
    assert not a_train_config(resources={"workers": 2}).is_sharded
