"""Attributions held to highlights: the share that is punished, and gradients through gradients."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from manifests import a_job
from small_models import small_model
from small_runs import a_train_config
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_engine.sources.model_facts import ModelFacts
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.memory import Workload
from tunesmith_engine.stages.training_memory import worker_memory
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.objectives.attribution import HeldToHighlights, Marked
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.packing import LayOut, end_to_end, one_per_line
from tunesmith_trainer.train.parameter_groups import trainable_parameters

CPU = torch.device("cpu")
END_TO_END = partial(end_to_end, max_tokens=80)
WEIGHT = 3.0
# Ids, and the first token of the answer.
ROWS = (([5, 9, 3, 7, 11, 2, 8], 5), ([4, 6, 1], 2), ([9, 9, 8, 3, 2, 1, 7, 5], 6))
TOKENS = TokenRows.of((ids, [at >= start for at in range(len(ids))]) for ids, start in ROWS)
# The second row has no highlights.
MARKED = Marked(
    numbers=[0, 2], tokens=TOKENS.subset([0, 2]), inside=[[1], [3, 4]], outside=[[2, 3], [1, 2]]
)


def an_objective(*, lay_out: LayOut = one_per_line, weight: float = WEIGHT) -> HeldToHighlights:
    return HeldToHighlights(
        TOKENS,
        marked=MARKED,
        weight=weight,
        device=CPU,
        lay_out=lay_out,
        regularization=Regularization(),
    )


def gradients(model: Any, objective: Any, *, rows: list[int], bf16: bool = False) -> Any:
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = objective.summed_loss(model, rows)
    loss.backward()
    found = {name: one.grad.clone() for name, one in trainable_parameters(model).items()}
    return loss.item(), found


def share_of(model: Any, place: int) -> torch.Tensor:
    """Written out: the row alone, with its embeddings as the inputs."""
    ids, start = torch.tensor([ROWS[MARKED.numbers[place]][0]]), ROWS[MARKED.numbers[place]][1]
    inputs = model.get_input_embeddings()(ids)
    logits = model(inputs_embeds=inputs, use_cache=False).logits
    likelihood = -F.cross_entropy(logits[0, start - 1 : -1], ids[0, start:], reduction="sum")
    (gradient,) = torch.autograd.grad(likelihood, inputs, create_graph=True)
    squares = gradient[0].square().sum(dim=-1)
    off, on = (squares[list(side[place])].sum() for side in (MARKED.outside, MARKED.inside))
    return off / (on + off)


def close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], **within: float) -> None:
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, **within)


def test_the_loss_and_its_gradients_are_those_of_the_formula() -> None:
    model = small_model()
    loss, found = gradients(model, an_objective(), rows=[0, 1, 2])

    model.zero_grad()
    plain = CrossEntropy(TOKENS, device=CPU).summed_loss(model, [0, 1, 2])
    with sdpa_kernel(SDPBackend.MATH):
        # Means over rows with highlights, where the loop divides by targets.
        shares = [share_of(model, place) for place in (0, 1)]
        wanted = plain + WEIGHT * TOKENS.num_targets * torch.stack(shares).mean()
        wanted.backward()

    assert loss == pytest.approx(wanted.item(), rel=1e-5)
    assert all(0.05 < share.item() < 0.95 for share in shares)
    theirs = {name: one.grad for name, one in trainable_parameters(model).items()}
    close(found, theirs, rtol=1e-3, atol=1e-4)


def test_rows_without_highlights_train_as_ever() -> None:
    model = small_model()
    loss, found = gradients(model, an_objective(), rows=[1])
    plain, wanted = gradients(model, CrossEntropy(TOKENS, device=CPU), rows=[1])

    assert loss == plain
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 1, 0], [2, 0]])
def test_rows_end_to_end_give_the_same(rows: list[int]) -> None:
    model = small_model()
    alone = gradients(model, an_objective(), rows=rows)
    packed = gradients(model, an_objective(lay_out=END_TO_END), rows=rows)

    assert packed[0] == pytest.approx(alone[0], rel=1e-5)
    close(packed[1], alone[1], rtol=1e-3, atol=1e-4)


JOBS: dict[str, dict[str, Any]] = {
    "whole": {"method": "full"},
    "adapters": {"method": "lora"},
    "frozen layers below": {"method": "lora", "freeze": {"layers": 1}},
    "dora": {"method": "lora", "lora": {"useDora": True}},
    "nf4": {"method": "lora", "lora": {"quantization": "nf4"}},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    small_model(hidden_size=64).save_pretrained(folder)
    return folder


def a_model(base: Path, training: dict[str, Any], **more: Any) -> Any:
    config = a_train_config(training={"precision": "fp32", **training, **more})
    model = build_trainable(base, config=config, device=CPU).train()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # which are zeros at first, and let no gradient reach A
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("job", JOBS)
def test_layers_that_compute_again_give_the_same_to_the_last_bit(base: Path, job: str) -> None:
    plain, again = (
        a_model(base, JOBS[job], gradientCheckpointing=setting) for setting in ("none", "all")
    )
    wanted = gradients(plain, an_objective(), rows=[0, 1, 2])
    found = gradients(again, an_objective(), rows=[0, 1, 2])

    assert again.is_gradient_checkpointing
    assert found[0] == wanted[0]
    assert all(torch.equal(found[1][name], gradient) for name, gradient in wanted[1].items())


@pytest.mark.parametrize("job", JOBS)
def test_the_penalty_reaches_what_is_trained(base: Path, job: str) -> None:
    model = a_model(base, JOBS[job])
    held = gradients(model, an_objective(), rows=[0, 2])[1]
    plain = gradients(model, an_objective(weight=1e-12), rows=[0, 2])[1]

    moved = [name for name in held if not torch.allclose(held[name], plain[name], atol=1e-5)]
    assert len(moved) > len(held) / 2


@pytest.mark.parametrize("job", ["whole", "adapters"])
def test_half_the_digits_point_the_same_way(base: Path, job: str) -> None:
    exact = gradients(a_model(base, JOBS[job]), an_objective(), rows=[0, 1, 2])
    model = a_model(base, JOBS[job], precision="bf16")
    rough = gradients(model, an_objective(), rows=[0, 1, 2], bf16=True)

    assert rough[0] == pytest.approx(exact[0], rel=0.02)
    one, other = (
        torch.cat([gradient.flatten().float() for gradient in found.values()])
        for found in (exact[1], rough[1])
    )
    assert F.cosine_similarity(one, other, dim=0) > 0.98


def test_a_descent_brings_the_share_down() -> None:
    model, objective = small_model(), an_objective(weight=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with sdpa_kernel(SDPBackend.MATH):
        before = objective.outside_shares(model, [0, 1]).detach()
    for _ in range(30):
        optimizer.zero_grad()
        (objective.summed_loss(model, [0, 1, 2]) / TOKENS.num_targets).backward()
        optimizer.step()

    with sdpa_kernel(SDPBackend.MATH):
        after = objective.outside_shares(model, [0, 1]).detach()
    assert (after < 0.5 * before).all()


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(_ctx: Any, upstream: torch.Tensor) -> torch.Tensor:
        return upstream.clone()


def test_a_layer_without_a_second_derivative_is_told() -> None:
    model = small_model()
    layer = model.model.layers[0].mlp
    layer.register_forward_hook(lambda _module, _inputs, output: _Once.apply(output))

    with pytest.raises(BadInputError, match=r"training\.explanation: given method: attribution"):
        an_objective().summed_loss(model, [0])


@pytest.mark.parametrize("job", ["adapters", "whole"])
def test_as_many_bytes_are_kept_as_are_estimated(base: Path, job: str) -> None:
    model = a_model(base, JOBS[job])
    num_rows, length = 2, 48
    rows = TokenRows.of(
        ([1 + at for at in range(length)], [at >= length - 4 for at in range(length)])
        for _ in range(num_rows)
    )
    marked = Marked(numbers=[0, 1], tokens=rows, inside=[[1], [1]], outside=[[2], [2]])
    objective = HeldToHighlights(
        rows,
        marked=marked,
        weight=1.0,
        device=CPU,
        lay_out=one_per_line,
        regularization=Regularization(),
    )
    parameters = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, sdpa_kernel(SDPBackend.MATH):
        shares = objective.outside_shares(model, [0, 1])
    size = sum(each.untyped_storage().nbytes() for at, each in kept.items() if at not in parameters)

    assert shares.requires_grad
    assert estimated(model, job, num_rows=num_rows, length=length) == pytest.approx(size, rel=0.25)


def estimated(model: Any, job: str, *, num_rows: int, length: int) -> int:
    fields = {"dataset": {"train": {"uri": "file://a"}, "highlights": "because"}}
    training = {**JOBS[job], "explanation": {"method": "attribution"}, "precision": "fp32"}
    given = a_job(**fields, training={**training, "batch": {"size": num_rows}})
    config = model.config
    facts = ModelFacts(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        vocab_size=config.vocab_size,
        context_length=64,
        is_tied=True,
        has_chat_template=True,
    )
    spec = FineTuneJob.model_validate(given).spec.with_defaults()
    return worker_memory(Workload(spec, facts, length)).activations
