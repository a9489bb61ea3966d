"""A replica of a published version that has a draft: in real vLLM, beside the same without.

The draft is what the stage leaves: cut out of the model that is served, and taught by it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from command import free_port
from openai_wire import KEY, call
from recovered_job import STEPS, make_recovered_job, recovery_request, result_of
from replica_server import SERVER, Server, end, started
from served_version import write_fingerprints
from small_models import CONTEXT, CORPUS, make_tiny_model
from tuned_job import SilentReporter
from tunesmith_engine.stages.catalog import COMPRESS, DRAFT, VERIFY
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.compress.merge import save_merged
from tunesmith_trainer.distill.draft import draft
from tunesmith_trainer.models import load_tuned
from tunesmith_trainer.publish.stage import publish
from verified_job import make_verified_job, publish_request, with_draft, with_settings

TOKENS = 3
ANSWER_TOKENS = 32

# Two starts of vLLM.
pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(900)]


def test_a_replica_guesses_with_the_draft_of_its_version_and_answers_as_without(
    tmp_path: Path,
) -> None:
    whole, pair = published_without_and_with_draft(tmp_path)
    assert not (whole / "draft").exists()

    expected, counted = asked_of(whole)
    assert counted == {}
    answers, counted = asked_of(pair)

    assert answers == expected
    assert counted["num_drafts"] > 0
    assert counted["num_draft_tokens"] == TOKENS * counted["num_drafts"]
    assert 0 < counted["num_accepted_tokens"] < counted["num_draft_tokens"]


def published_without_and_with_draft(root: Path) -> tuple[Path, Path]:
    """The folders of two versions of the same model."""
    # vLLM has no attention on processors for heads as small as those of three layers.
    tuned = make_recovered_job(root / "tuned", make_model=make_tiny_model)
    job = make_verified_job(root / "job")
    speculative = {"method": "draftModel", "draft": {"ratio": 0.5, "recovery": STEPS}}
    request = recovery_request(
        tuned, DRAFT.name, output=root / "drafted", serving={"speculative": speculative}
    )
    drafted = result_of(DRAFT.name, draft(request, SilentReporter()))
    compressed = job / COMPRESS.name / "compressed"
    model = load_tuned(request, dtype=torch.float32)
    save_merged(model, compressed, tokenizer_folder=tuned / "model")
    write_fingerprints(compressed)
    (compressed / "fingerprints.json").replace(job / VERIFY.name / "fingerprints.json")
    plain = with_settings(
        publish_request(job, output=root / "published" / "artifacts"), maxModelLength=CONTEXT
    )
    return published(plain), published(with_draft(plain, drafted, tokens=TOKENS))


def published(request: StageRequest) -> Path:
    facts: Any = publish(request, SilentReporter()).facts
    return Path(request.models) / "tickets" / facts["modelVersion"]["spec"]["version"]


def asked_of(folder: Path) -> tuple[list[list[int]], Mapping[str, int]]:
    """Greedy answers of a replica to several requests, and what vLLM counts of its guesses."""
    server = served(folder)
    try:
        answers = [answer(server, prompt) for prompt in CORPUS]
        return answers, guesses(server)
    finally:
        end(server)


def served(folder: Path) -> Server:
    port = free_port()
    words = ["serve", str(folder), "--port", str(port), "--probe-seconds", "0.5"]
    command: list[str | Path] = [SERVER, "-m", "tunesmith_serving", *words]
    return started(command, {"VLLM_API_KEY": KEY}, port, folder)


def answer(server: Server, prompt: str) -> list[int]:
    body = {
        "model": "tickets",
        "prompt": prompt,
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    answered = call(server.port, "/v1/completions", body)
    assert answered.status == 200, answered.body
    assert answered.headers["x-tunesmith-version"] == server.folder.name
    found: list[int] = answered.json["choices"][0]["token_ids"]
    assert len(found) == ANSWER_TOKENS
    return found


def guesses(server: Server) -> dict[str, int]:
    """By vLLM's names of its counters, which begin alike."""
    lines = call(server.port, "/metrics").body.decode().splitlines()
    counters = (line.rpartition(" ") for line in lines if line.startswith("vllm:spec_decode_"))
    return {
        name.partition("{")[0].removeprefix("vllm:spec_decode_").removesuffix("_total"): int(
            float(value)
        )
        for name, _, value in counters
        if "_total{" in name and "per_pos" not in name
    }
