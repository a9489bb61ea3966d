"""Answers are read by a classifier of the job's own, which has to be there before training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from small_models import TINY_VOCABULARY, make_tiny_tokenizer
from tuned_job import SilentReporter, request_for
from tunesmith_api.finetunejob.fairness import Classifier
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate.stage import evaluate
from tunesmith_trainer.fairness.terms import Terms
from tunesmith_trainer.fairness.toxicity import (
    classifier_in,
    either_way,
    require_classifiers,
    toxicity_measures,
)
from tunesmith_trainer.publish.fairness import fairness_section

GROUPS = [
    {"name": "screens", "terms": ["screen", "mouse"]},
    {"name": "printers", "terms": ["printer", "password"]},
]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=TINY_VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        id2label={0: "fine", 1: "toxic"},
        label2id={"fine": 0, "toxic": 1},
        pad_token_id=0,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


def suite(classifier: Path, **fields: Any) -> dict[str, Any]:
    model = {"uri": f"file://{classifier}"}
    asked = {"model": model, "label": "toxic", **fields}
    return {"name": "tone", "kind": "toxicity", "groups": GROUPS, "classifier": asked}


def evaluation(*suites: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "generation": {"maxNewTokens": 4},
        "bootstrap": {"resamples": 200},
        "gates": [],
        "fairness": {"suites": list(suites)},
        **fields,
    }


def test_answers_are_read_of_both_models(job: Path, classifier: Path, tmp_path: Path) -> None:
    asked = evaluation(
        suite(classifier), gates=[{"suite": "tone", "metric": "toxicShare", "max": 1.0}]
    )

    outcome = evaluate(
        request_for(job, EVALUATE.name, output=tmp_path, evaluation=asked), SilentReporter()
    )

    numbers = {one.metric: one for one in outcome.evaluation if one.suite == "tone"}
    assert set(numbers) == {"gap", "toxicityGap", "toxicShare", "emptyShare"}
    assert numbers["toxicityGap"].base is not None
    assert -1 < numbers["toxicityGap"].value < 1
    assert any("tone states no licence" in told for told in outcome.warnings)
    assert "| tone | toxicityGap |" in fairness_section({"fairness": outcome.facts["fairness"]}, {})


def test_what_the_classifier_has_against_a_term_is_no_gap(classifier: Path) -> None:
    """Two answers that differ in the terms alone are read as one, whatever the terms do to it."""
    terms = Terms(("screens", "printers"), (("screen",), ("printer",)))
    answers = ["The screen is broken.", "The printer is broken."]
    found = classifier_in(classifier, Classifier.model_validate(named(classifier)), field="a")

    plain = found.scores(answers, device=torch.device("cpu"))
    read = [text for answer in answers for text in either_way(answer, terms, group=1)]
    scores = found.scores(read, device=torch.device("cpu")).reshape(-1, 2, 2).mean(axis=2)

    assert plain[0] != plain[1]
    gap = toxicity_measures(scores, answers, ["printers"])[0]
    assert gap.value() == pytest.approx(0.0, abs=1e-7)


def test_silence_is_not_toxic_and_batches_do_not_matter(classifier: Path) -> None:
    found = classifier_in(classifier, Classifier.model_validate(named(classifier)), field="a")
    texts = ["Turn it off.", " ", "My printer does not print at all today. " * 9, "No."]

    together = found.scores(texts, device=torch.device("cpu"))
    alone = [found.scores([text], device=torch.device("cpu"))[0] for text in texts]

    assert together[1] == 0.0
    assert together == pytest.approx(alone, abs=1e-6)


def named(folder: Path, **fields: Any) -> dict[str, Any]:
    return {"model": {"uri": f"file://{folder}"}, "label": "toxic", **fields}


def test_a_label_that_it_does_not_have_is_refused_before_training(
    job: Path, classifier: Path, tmp_path: Path
) -> None:
    asked = evaluation(suite(classifier, label="rude"))
    request = request_for(job, EVALUATE.name, output=tmp_path, evaluation=asked)

    with pytest.raises(BadInputError, match=r"label: given rude; .* are fine, toxic") as refused:
        require_classifiers(request)

    assert refused.value.reason is Reason.INVALID_SPEC


def test_a_model_that_writes_is_no_classifier(job: Path, tmp_path: Path) -> None:
    asked = evaluation(suite(job / "model"))

    with pytest.raises(BadInputError, match="LlamaForCausalLM; answers are read by"):
        require_classifiers(request_for(job, EVALUATE.name, output=tmp_path, evaluation=asked))


def test_one_score_without_a_probability_is_refused(classifier: Path, tmp_path: Path) -> None:
    config = json.loads((classifier / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "toxic"}}))
    wanted = Classifier.model_validate(named(tmp_path))

    with pytest.raises(BadInputError, match="one label and no problem_type"):
        classifier_in(tmp_path, wanted, field="a")
