"""Packed weights multiply as plain ones do, and leave the model as it was."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from small_models import small_model
from tunesmith_trainer.evaluate.packed_linears import packed_linears


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 8, bias=False))


@pytest.mark.parametrize("num_rows", [1, 16, 100])
def test_products_are_those_of_plain_weights(model: nn.Module, num_rows: int) -> None:
    rows = torch.randn(num_rows, 2, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = model(rows)

        with packed_linears(model):
            packed = model(rows)

    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-5)


def test_a_packed_weight_takes_the_place_of_the_plain_one(model: nn.Module) -> None:
    with packed_linears(model):
        assert model[0].weight.numel() == 0


def test_weights_are_the_same_bits_again_even_after_an_error(model: nn.Module) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    with pytest.raises(RuntimeError, match="on the way"), packed_linears(model):
        raise RuntimeError("on the way")

    after = model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert "forward" not in vars(model[0])


def test_a_model_that_generated_in_inference_mode_can_be_trained_afterwards(
    model: nn.Module,
) -> None:
    rows = torch.randn(3, 24)
    with torch.inference_mode(), packed_linears(model):
        model(rows)

    model(rows).sum().backward()

    assert model[0].weight.grad.shape == (40, 24)


def test_a_head_that_is_the_embedding_stays_it() -> None:
    model = small_model()
    model.lm_head.weight = model.model.embed_tokens.weight

    with packed_linears(model):
        assert model.model.embed_tokens.weight.numel() > 0

    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_layer_with_a_forward_of_its_own_keeps_it(model: nn.Module) -> None:
    """So does compressed-tensors with layers that it quantizes."""
    model[0].forward = lambda rows: torch.zeros(len(rows), 40)

    with packed_linears(model):
        assert model[0].weight.numel() > 0
        assert not model[0](torch.ones(2, 24)).any()

    assert not model[0](torch.ones(2, 24)).any()


@pytest.mark.parametrize("use_dora", [False, True])
def test_adapters_compute_what_they_did(*, use_dora: bool) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], use_dora=use_dora, init_lora_weights=False)
    model = get_peft_model(small_model(), config).eval()
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        plain = model(input_ids=ids).logits

        with packed_linears(model):
            packed = model(input_ids=ids).logits

    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-5)


def test_halves_and_subclasses_are_left_alone() -> None:
    class Own(nn.Linear):
        """Does with its weight what it likes."""

    model = nn.Sequential(nn.Linear(4, 4).to(torch.bfloat16), Own(4, 4))

    with packed_linears(model):
        assert all(layer.weight.numel() == 16 for layer in model)
