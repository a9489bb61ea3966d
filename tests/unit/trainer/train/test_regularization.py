"""Noise in training is at work there, nowhere else, and a resumed run draws the same of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel

from manifests import a_job
from small_models import SMALL_VOCABULARY, small_model
from small_runs import a_loop, a_train_config, losses, random_rows
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.prepare.preflight import refuse_unfit_model
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.attention_dropout import (
    load_with_attention_dropout,
    refuse_without_attention_dropout,
)
from tunesmith_trainer.train.dataloader import collate
from tunesmith_trainer.train.embedding_noise import noisy_embeddings
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, target_logits

CPU = torch.device("cpu")
ROWS = [0, 1, 2, 3, 4]
IDS = torch.arange(1, 33).remainder(SMALL_VOCABULARY)[None]
NOISES: list[dict[str, Any]] = [
    {"lora": {"dropout": 0.3}},
    {"regularization": {"labelSmoothing": 0.2}},
    {"regularization": {"neftuneNoiseAlpha": 5.0}},
    {"regularization": {"attentionDropout": 0.3}},
    {"regularization": {"embeddingDropout": 0.3}},
]


class Killed(Exception):  # noqa: N818 - it is what happens, not what is wrong
    """The worker is gone."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    small_model().save_pretrained(folder)
    return folder


def test_label_smoothing_spreads_a_part_of_every_target_over_the_vocabulary() -> None:
    model, tokens = small_model(), random_rows(5)
    batch = collate(tokens, ROWS, pad_id=0, device=CPU)
    logprobs = F.log_softmax(target_logits(model, batch), dim=-1)
    plain = -logprobs.gather(1, batch.targets[:, None]).sum()

    smoothed = _objective(label_smoothing=0.1).summed_loss(model, ROWS)

    expected = 0.9 * plain - 0.1 * logprobs.mean(dim=-1).sum()
    assert smoothed.item() == pytest.approx(expected.item(), rel=1e-5)


def test_row_losses_are_the_plain_ones_however_training_is_noised() -> None:
    model = small_model()
    noised = _objective(label_smoothing=0.2, neftune_noise_alpha=50.0, embedding_dropout=0.5)

    rows = noised.row_losses(model.train(), ROWS)

    plain = CrossEntropy(random_rows(5), device=CPU)
    assert rows.shape == (5,)
    assert rows.sum().item() == pytest.approx(plain.summed_loss(model, ROWS).item(), rel=1e-5)
    for row in ROWS:
        alone = plain.summed_loss(model, [row]).item()
        assert rows[row].item() == pytest.approx(alone, rel=1e-5)


def test_neftune_noise_is_bounded_by_the_length_of_the_row_itself() -> None:
    """Row 1 is padded to the length of row 0, and has the noise of its own eight tokens."""
    model = small_model().train()
    ids = torch.ones(2, 32, dtype=torch.long)
    clean = model.model.embed_tokens(ids)

    with noisy_embeddings(
        model,
        regularization=Regularization(neftune_noise_alpha=5.0),
        row_lengths=torch.tensor([[32], [8]]),
    ):
        noise = (model.model.embed_tokens(ids) - clean).abs().amax(dim=(1, 2)).tolist()

    bounds = [5.0 / (length * 16) ** 0.5 for length in (32, 8)]
    for largest, bound in zip(noise, bounds, strict=True):
        assert 0.9 * bound < largest <= bound
    assert torch.equal(model.model.embed_tokens(ids), clean)


def test_dropped_embeddings_keep_their_mean() -> None:
    model = small_model().train()
    ids = torch.ones(1, 500, dtype=torch.long)
    clean = model.model.embed_tokens(ids)

    with noisy_embeddings(
        model,
        regularization=Regularization(embedding_dropout=0.25),
        row_lengths=torch.tensor([[500]]),
    ):
        dropped = model.model.embed_tokens(ids)

    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(dropped[kept], (clean / 0.75)[kept])


@pytest.mark.parametrize("noise", [{"neftune_noise_alpha": 5.0}, {"embedding_dropout": 0.5}])
def test_nothing_is_noised_in_evaluation_mode(noise: dict[str, float]) -> None:
    model, objective = small_model().eval(), _objective(**noise)

    plain = CrossEntropy(random_rows(5), device=CPU).summed_loss(model, ROWS)

    assert torch.equal(objective.summed_loss(model, ROWS), plain)
    assert not torch.equal(objective.summed_loss(model.train(), ROWS), plain)


def test_attention_dropout_drops_in_training_mode_alone(base: Path) -> None:
    """With sdpa, which every model is trained with."""
    model = load_with_attention_dropout(base, 0.3)

    assert model.config._attn_implementation == "sdpa"
    assert not model.training
    assert torch.equal(model(IDS).logits, small_model()(IDS).logits)
    model.train()
    assert not torch.equal(model(IDS).logits, model(IDS).logits)


def test_a_model_without_attention_dropout_is_refused_with_the_dropouts_it_has(
    tmp_path: Path,
) -> None:
    config = GPT2Config(vocab_size=97, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)

    with pytest.raises(BadInputError, match="attn_pdrop, embd_pdrop, resid_pdrop") as caught:
        load_with_attention_dropout(tmp_path, 0.1)

    assert "training.regularization.attentionDropout: a model of type gpt2" in caught.value.message
    refuse_without_attention_dropout(small_model().config)
    with pytest.raises(BadInputError, match="of type gpt2"):  # before it is trained
        refuse_unfit_model(_spec(regularization={"attentionDropout": 0.1}), tmp_path)
    refuse_unfit_model(_spec(), tmp_path)


def test_a_setting_that_no_layer_reads_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = type(small_model().model.layers[0].self_attn)
    read = attention.forward

    def without_dropout(self: Any, *given: Any, **named: Any) -> Any:
        self.attention_dropout = 0.0
        return read(self, *given, **named)

    monkeypatch.setattr(attention, "forward", without_dropout)

    with pytest.raises(BadInputError, match="does not read its attention_dropout"):
        load_with_attention_dropout(base, 0.3)


def test_a_full_model_is_published_with_the_attention_dropout_of_its_base(
    base: Path, tmp_path: Path
) -> None:
    training = {"method": "full", "regularization": {"attentionDropout": 0.3}}
    model = build_trainable(base, config=a_train_config(training=training), device=CPU)

    folder = export_tuned(model, base=base, base_uri="hf://org/base", output=tmp_path)

    assert json.loads((folder / "config.json").read_text())["attention_dropout"] == 0.0
    assert AutoConfig.from_pretrained(base).attention_dropout == 0.0


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_a_resumed_run_draws_the_noise_of_an_undisturbed_one(
    noise: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    training = {
        "batch": {"size": 8, "microBatchSize": 4},
        "optimizer": {"learningRate": 1e-2},
        "maxSteps": 6,
        "evaluateEverySteps": 2,
    }
    plain = a_train_config(training=training)
    config = a_train_config(training={**training, **noise}, checkpoint={"everySteps": 2})

    def run(name: str, **given: Any) -> History:
        model = build_trainable(base, config=given.get("config", config), device=CPU)
        return a_loop(model, **{"config": config, "folder": tmp_path / name, **given}).run()

    undisturbed = run("a")
    with pytest.raises(Killed):
        run("b", on_step=_dies_at(5))
    resumed = run("b")

    assert losses(resumed) == losses(undisturbed)
    assert resumed.best_sums == undisturbed.best_sums
    assert losses(undisturbed) != losses(run("c", config=plain))


def _spec(**training: Any) -> FineTuneJobSpec:
    return FineTuneJob.model_validate(a_job(training=training)).spec


def _objective(**regularization: float) -> CrossEntropy:
    return CrossEntropy(random_rows(5), device=CPU, regularization=Regularization(**regularization))


def _dies_at(step: int) -> Any:
    def on_step(history: History, *, epoch: float) -> None:
        if history.step == step:
            raise Killed

    return on_step
