"""The divergence from a teacher: its value, its gradient, and what cached tokens make of it."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from small_models import small_model
from small_runs import random_rows
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.distill.teacher_cache import CachingPass
from tunesmith_trainer.train.objectives.cross_entropy import (
    CrossEntropy,
    predicting_states,
    target_logits,
)
from tunesmith_trainer.train.objectives.distillation import (
    Distillation,
    Knowledge,
    TeacherCache,
    TeacherLogits,
    teacher_logprobs,
)
from tunesmith_trainer.train.packing import end_to_end

CPU = torch.device("cpu")
TOKENS = random_rows(6)
ROWS = [4, 0, 5, 2]


def distillation(knowledge: Knowledge, *, weight: float = 0.0, lay_out: Any = None) -> Distillation:
    given = {"lay_out": lay_out} if lay_out else {}
    return Distillation(
        TOKENS,
        knowledge=knowledge,
        cross_entropy_weight=weight,
        device=CPU,
        regularization=Regularization(),
        **given,
    )


def by_the_book(teacher: Any, student: Any, objective: str, *, temperature: float) -> torch.Tensor:
    batch = CrossEntropy(TOKENS, device=CPU).collated(ROWS)
    with torch.no_grad():
        p = (target_logits(teacher, batch) / temperature).log_softmax(-1)
    q = (target_logits(student, batch) / temperature).log_softmax(-1)
    mixed = (0.5 * (p.exp() + q.exp())).log()

    def kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return F.kl_div(second, first, log_target=True, reduction="sum")

    values = {
        "forwardKl": kl(p, q),
        "reverseKl": kl(q, p),
        "jensenShannon": 0.5 * kl(p, mixed) + 0.5 * kl(q, mixed),
    }
    return values[objective] * temperature**2


def refuse_another(got: Any, expected: Any) -> None:
    """Return if both models have the same gradients."""
    for mine, theirs in zip(got.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("objective", ["forwardKl", "reverseKl", "jensenShannon"])
def test_it_is_the_divergence_over_the_vocabulary_of_every_target(
    objective: str, temperature: float
) -> None:
    teacher, (one, other) = small_model(seed=1), (small_model() for _ in range(2))
    knowledge = TeacherLogits(teacher, objective=objective, temperature=temperature)

    loss = distillation(knowledge).summed_loss(one, ROWS)
    loss.backward()
    expected = by_the_book(teacher, other, objective, temperature=temperature)
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    refuse_another(one, other)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    knowledge = TeacherLogits(small_model(), objective="forwardKl", temperature=1.0)

    assert abs(distillation(knowledge).summed_loss(small_model(), ROWS).item()) < 1e-4


def test_a_part_of_the_loss_may_be_that_of_the_answers() -> None:
    teacher, (one, other) = small_model(seed=1), (small_model() for _ in range(2))
    knowledge = TeacherLogits(teacher, objective="forwardKl", temperature=1.0)

    distillation(knowledge, weight=0.25).summed_loss(one, ROWS).backward()
    plain = CrossEntropy(TOKENS, device=CPU).summed_loss(other, ROWS)
    divergence = by_the_book(teacher, other, "forwardKl", temperature=1.0)
    (0.25 * plain + 0.75 * divergence).backward()

    refuse_another(one, other)


def test_rows_that_lie_end_to_end_have_the_same_divergence() -> None:
    knowledge = TeacherLogits(small_model(seed=1), objective="forwardKl", temperature=1.0)
    packed, padded = (
        distillation(knowledge, lay_out=lay_out).summed_loss(small_model(), ROWS)
        for lay_out in (lambda lengths: end_to_end(lengths, max_tokens=sum(lengths)), None)
    )

    assert packed.item() == pytest.approx(padded.item(), rel=1e-4)


def sure_teacher() -> Any:
    """Far from random: its draws would else tell more of chance than of it."""
    model = small_model(seed=1).eval()
    model.get_output_embeddings().weight.data *= 30
    return model


def caching(
    folder: Path,
    *,
    logits: Literal["sampled", "topK"] = "sampled",
    samples: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> CachingPass:
    return CachingPass(
        teacher=sure_teacher(),
        rows=CrossEntropy(TOKENS, device=CPU),
        autocast=lambda: torch.autocast("cpu", enabled=False),
        folder=folder,
        logits=logits,
        samples=samples,
        temperature=temperature,
        seed=seed,
    )


def silent(_done: int, _total: int) -> None:
    """Progress that nobody reads."""


def cached_gradients(folder: Path, *, temperature: float = 1.0, **chosen: Any) -> Any:
    cached = caching(folder, temperature=temperature, **chosen).run(ROWS, on_file=silent)
    student = small_model()
    knowledge = TeacherCache(cached.of_row, temperature=temperature)
    distillation(knowledge).summed_loss(student, ROWS).backward()
    return student


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_many_drawn_tokens_teach_what_all_logits_do(tmp_path: Path, temperature: float) -> None:
    student = small_model()
    by_the_book(sure_teacher(), student, "forwardKl", temperature=temperature).backward()

    drawn = cached_gradients(tmp_path, samples=20_000, temperature=temperature)

    for got, expected in zip(drawn.parameters(), student.parameters(), strict=True):
        apart = (got.grad - expected.grad).norm() / expected.grad.norm().clamp_min(1e-3)
        assert apart < 0.1


def test_all_of_the_most_probable_tokens_are_all_logits(tmp_path: Path) -> None:
    student = small_model()
    by_the_book(sure_teacher(), student, "forwardKl", temperature=2.0).backward()

    # As many as wanted, at most as many as there are.
    cached = cached_gradients(tmp_path, logits="topK", samples=10_000, temperature=2.0)

    for got, expected in zip(cached.parameters(), student.parameters(), strict=True):
        assert torch.allclose(got.grad, expected.grad, atol=1e-5)


def test_few_of_the_most_probable_tokens_are_a_teacher_too_sure_of_itself(tmp_path: Path) -> None:
    chosen = caching(tmp_path, logits="topK", samples=2).run(ROWS, on_file=silent)

    first = chosen.of_row(ROWS[0])
    batch = CrossEntropy(TOKENS, device=CPU).collated([ROWS[0]])
    hidden = predicting_states(sure_teacher(), batch)
    said = teacher_logprobs(hidden, slice(None), temperature=1.0).exp()
    assert torch.equal(first.tokens, said.topk(2).indices)
    assert torch.allclose(first.weights.sum(dim=1), torch.ones(len(said)))
    assert (first.weights > said.gather(1, first.tokens)).all()


def test_what_was_drawn_is_read_again_and_a_lost_file_is_drawn_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith_trainer.distill.teacher_cache.ROWS_PER_FILE", 2)
    first = caching(tmp_path, samples=3).run(ROWS, on_file=silent)
    files = sorted(tmp_path.iterdir())
    before = [np.load(file).copy() for file in files]
    files[1].unlink()
    told: list[tuple[int, int]] = []

    again = caching(tmp_path, samples=3).run(ROWS, on_file=lambda *part: told.append(part))

    assert [file.name for file in files] == ["000000.npy", "000001.npy"]
    for file, kept in zip(files, before, strict=True):
        assert np.array_equal(np.load(file), kept)
    for row in ROWS:
        assert first.of_row(row).tokens.shape == (int(TOKENS.row(row)[1].sum()), 3)
        assert torch.equal(first.of_row(row).tokens, again.of_row(row).tokens)
        assert torch.equal(first.of_row(row).weights, again.of_row(row).weights)
    assert told == [(1, 2), (2, 2)]


def test_another_seed_draws_other_tokens(tmp_path: Path) -> None:
    one, other = (
        caching(tmp_path / str(seed), samples=8, seed=seed).run(ROWS, on_file=silent)
        for seed in (0, 1)
    )

    assert any(not torch.equal(one.of_row(row).tokens, other.of_row(row).tokens) for row in ROWS)
