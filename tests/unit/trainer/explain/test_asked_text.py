"""A text on a model: what is told, and what is refused in words."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from small_models import CONTEXT
from tuned_job import make_tuned_job
from tunesmith_trainer.explain.asked_text import answer
from tunesmith_trainer.explain.told_progress import ToldProgress

SETTINGS = {"maxPasses": 48, "attention": False}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("job"))


def told(job: Path, text: str, **given: Any) -> dict[str, Any]:
    asked = {
        "base": str(job / "model"), "adapter": str(job / "tuned"), "text": text,
        "answer": "Turn it off.", "settings": SETTINGS,
    }  # fmt: skip
    return answer({**asked, **given}, ToldProgress(StringIO()))


def test_each_word_gets_a_score_of_every_method(job: Path) -> None:
    row = told(job, "My printer does not print.")

    assert [unit["text"] for unit in row["units"]] == ["My", "printer", "does", "not", "print."]
    assert row["answer"] == "Turn it off.<|im_end|>"
    shap = row["methods"][0]
    assert shap["estimator"] == "exact"
    assert sum(shap["scores"]) == pytest.approx(row["value"] - row["withoutUnits"], abs=1e-4)


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("printer " * CONTEXT, {}, f"beyond the model's context of {CONTEXT}"),
        (" ", {}, "the text is empty"),
        ("My printer", {"base": "/nowhere"}, "no model can be loaded"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    job: Path, text: str, given: dict[str, Any], said: str
) -> None:
    assert said in told(job, text, **given)["error"]["message"]
