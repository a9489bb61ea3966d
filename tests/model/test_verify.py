"""verify as the engine starts it, on a W8A8 model of 135M parameters in vLLM.

References come from `served_models`: transformers in float32, with weights and activations that are
rounded by hand.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from prepare_stage import Prepared
from served_models import QUESTIONS, write_reference, write_w8a8
from served_version import make_adapter_version, make_base, make_reference
from small_models import make_tiny_model
from tool_template import HERMES
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.catalog import COMPRESS, DRAFT, PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_serving.processor import has_amx, read_flags
from tunesmith_serving.settings import ServingSettings
from tunesmith_trainer.compress.known_chats import known_chats

SERVER = Path(__file__).parents[2] / ".venvs" / "server" / "bin" / "python"
HAS_VNNI = bool(read_flags() & {"avx512_vnni", "avx_vnni"})

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model, what it answers, and what another model would."""

    folder: Path
    reference: Path
    other_reference: Path


@pytest.fixture(scope="module")
def compressed(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    root = tmp_path_factory.mktemp("compressed")
    made = Compressed(root / "model", root / "reference.json", root / "other.json")
    write_w8a8(prepared.model, made.folder)
    write_reference(made.folder, made.reference)
    write_reference(made.folder, made.other_reference, noise=0.1)
    chats = _chats_with_tools(made.folder)
    for path in (made.reference, made.other_reference):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chats": chats}))
    return made


def _chats_with_tools(folder: Path) -> list[Any]:
    """What compress writes of a model whose template, put into its folder, shows tools."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = HERMES
    (folder / "chat_template.jinja").write_text(HERMES)
    return known_chats(tokenizer)


def verified(
    attempt: Path,
    *,
    folder: Path,
    reference: Path,
    serving: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    spec: Mapping[str, Any] | None = None,
    adapter: Mapping[str, Mapping[str, Path]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> StageResult:
    """The result of the stage, run as a process of the server environment.

    `facts` are those of compress.
    """
    attempt.mkdir(exist_ok=True)
    made = {COMPRESS.name: {"compressed": folder, "reference": reference}}
    for stage, paths in (adapter or {}).items():
        made[stage] = {**made.get(stage, {}), **paths}
    request = StageRequest(
        job="helpdesk",
        stage=VERIFY.name,
        key="k",
        attempt=1,
        spec=FineTuneJobSpec.model_validate(
            {
                "model": {"uri": "file:///model"},
                "dataset": {"train": {"uri": "file:///rows.jsonl"}},
                "output": {"model": "helpdesk"},
                "serving": {"maxModelLength": 512, **(serving or {})},
                **(spec or {}),
            }
        ),
        inputs={
            stage: StageResult(
                stage=stage,
                key="k",
                attempt=1,
                outcome="Succeeded",
                reason="Succeeded",
                artifacts=[artifact_of(name, path) for name, path in paths.items()],
                facts=dict(facts or {}) if stage == COMPRESS.name else {},
            )
            for stage, paths in made.items()
        },
        output=str(attempt / "artifacts"),
        report=str(attempt / "progress.json"),
        result=str(attempt / "result.json"),
        base=str(attempt),
        cache=str(attempt),
        secrets=str(attempt),
        models=str(attempt),
    )
    path = attempt / "request.json"
    path.write_text(request.model_dump_json(by_alias=True))
    subprocess.run(
        [SERVER, "-m", "tunesmith_serving", "verify", path],
        env={**os.environ, **(environment or {})},
        check=False,
        timeout=600,
    )
    return StageResult.model_validate_json((attempt / "result.json").read_text())


def test_a_sound_model_is_proved_and_leaves_its_settings_and_fingerprints(
    compressed: Compressed, tmp_path: Path
) -> None:
    """It needs no C++ compiler: the image of the server has none."""
    result = verified(
        tmp_path,
        folder=compressed.folder,
        reference=compressed.reference,
        environment={"CXX": "/nonexistent/g++"},
    )

    assert result.outcome == "Succeeded", result.message
    assert result.facts["numPrompts"] == len(QUESTIONS)
    assert str(result.facts["kernel"]).startswith("vec")
    assert ServingSettings.model_validate(result.facts["settings"]).max_model_length == 512
    parity = json.loads((tmp_path / "artifacts" / "parity.json").read_text())
    assert parity["holds"] is True
    answers = json.loads((tmp_path / "artifacts" / "parity-answers.json").read_text())
    assert "reset your password" in answers["prompts"][2]["served"]
    # That one is published, and prompts are rows.
    assert "served" not in parity["prompts"][2]
    fingerprints = json.loads((tmp_path / "artifacts" / "fingerprints.json").read_text())
    assert len(fingerprints["probes"]) == len(QUESTIONS)
    # As they were given: vLLM writes into the conversations that it is handed.
    assert fingerprints["chats"] == json.loads(compressed.reference.read_text())["chats"]
    assert [len(chat.get("tools", ())) for chat in fingerprints["chats"]] == [0, 0, 0, 1]
    # Activations that are rounded to eight bits move sound models by 0.08 to 0.17 nats.
    assert 0 < fingerprints["noise"] < 0.25


def test_the_answers_of_other_weights_are_refused_with_their_numbers(
    compressed: Compressed, tmp_path: Path
) -> None:
    result = verified(tmp_path, folder=compressed.folder, reference=compressed.other_reference)

    assert result.outcome == "Failed"
    assert result.reason == "ServingParityFailed"
    assert not result.bad_input
    assert not result.retryable
    assert float(str(result.facts["meanLogprobDifference"])) > 0.25
    assert [each.name for each in result.artifacts] == [
        "parity",
        "fingerprints",
        "parity-answers",
    ]


@pytest.mark.skipif(HAS_VNNI and not has_amx(read_flags()), reason="no kernel is wrong here")
def test_kernels_that_are_wrong_on_this_processor_are_refused_without_the_plugin(
    compressed: Compressed, tmp_path: Path
) -> None:
    result = verified(
        tmp_path,
        folder=compressed.folder,
        reference=compressed.reference,
        environment={"VLLM_PLUGINS": "none"},
    )

    assert result.reason == "ServingParityFailed"
    assert "VLLM_PLUGINS" in result.message


@pytest.mark.long
def test_a_compiled_build_is_judged_by_what_it_answers(
    compressed: Compressed, tmp_path: Path
) -> None:
    result = verified(
        tmp_path,
        folder=compressed.folder,
        reference=compressed.reference,
        serving={"enforceEager": False},
    )

    parity = json.loads((tmp_path / "artifacts" / "parity.json").read_text())
    is_within = (
        parity["agreementInterval"][1] >= parity["minAgreement"]
        and parity["meanLogprobDifference"] <= parity["maxLogprobDifference"]
        and parity["brokenPrompts"] == []
    )
    assert result.facts["enforceEager"] is False
    assert (result.outcome == "Succeeded") is is_within
    assert is_within or "serving.enforceEager: true" in result.message


def test_an_adapter_is_proved_on_its_base_beside_the_merged_model(tmp_path: Path) -> None:
    base, version = tmp_path / "base", tmp_path / "version"
    make_base(base)
    make_adapter_version(version, base=base, seed=1)
    merged = tmp_path / "version-merged"
    reference, of_base = tmp_path / "reference.json", tmp_path / "base.json"
    make_reference(merged, reference)
    make_reference(base, of_base, answers_of=merged)

    result = verified(
        tmp_path / "attempt",
        folder=merged,
        reference=reference,
        spec={
            "output": {"model": "helpdesk", "artifact": "both"},
            "training": {"lora": {"rank": 4}},
            # Random weights find every token about as likely.
            "verification": {"minAgreement": 0.0, "maxLogprobDifference": 2.0},
        },
        adapter={
            PREPARE.name: {"model": base},
            TRAIN.name: {"tuned": version / "adapter"},
            COMPRESS.name: {"adapterReference": reference},
        },
        # So called: what is asked is whether both models are loaded and timed.
        facts={"scheme": "W8A8"},
    )

    assert result.outcome == "Succeeded", result.message
    speed: Any = result.facts["speed"]
    for way in ("alone", "together"):
        for model in ("compressed", "unquantized"):
            slowest, middle, fastest = speed[way][model]
            assert 0 < slowest <= middle <= fastest
    assert speed["pays"] == (not any("was not faster" in each for each in result.warnings))
    assert "tokens/s, unquantized" in result.message
    assert {artifact.name for artifact in result.artifacts} == {
        "parity",
        "fingerprints",
        "adapterParity",
        "adapterFingerprints",
        "parity-answers",
        "adapter-parity-answers",
    }
    known = {name: logprobs_of(tmp_path / "attempt" / "artifacts" / f"{name}.json", "probes")
             for name in ("fingerprints", "adapterFingerprints")}  # fmt: skip
    expected = logprobs_of(reference, "prompts")
    assert distance(known["fingerprints"], expected) < 0.05
    assert distance(known["adapterFingerprints"], expected) < 0.05
    # What it would be if vLLM had left the adapter out.
    assert distance(logprobs_of(of_base, "prompts"), expected) > 0.2


def test_pairs_of_fairness_suites_have_the_gaps_that_transformers_finds(tmp_path: Path) -> None:
    base, reference = tmp_path / "base", tmp_path / "reference.json"
    make_base(base)
    make_reference(base, reference)
    sides = [
        ({"ids": [1, 5, 9, 12, 20], "counted": [1, 3, 4]}, {"ids": [1, 5, 40, 41, 12, 20],
          "counted": [1, 4, 5]}),
        ({"ids": [7, 8, 30], "counted": [2]}, {"ids": [7, 8, 31], "counted": [2]}),
    ]  # fmt: skip
    pairs = [{"suite": "terms", "first": first, "other": other} for first, other in sides]
    reference.write_text(json.dumps(json.loads(reference.read_text()) | {"biasPairs": pairs}))

    result = verified(
        tmp_path / "attempt",
        folder=base,
        reference=reference,
        # Random weights find every token about as likely.
        spec={"verification": {"minAgreement": 0.0, "maxLogprobDifference": 2.0}},
    )

    assert result.outcome == "Succeeded", result.message
    known = json.loads((tmp_path / "attempt" / "artifacts" / "fingerprints.json").read_text())
    model = LlamaForCausalLM.from_pretrained(base)
    expected = [
        (summed(model, first) - summed(model, other)) / len(first["counted"])
        for first, other in sides
    ]
    assert [pair["released"] for pair in known["biasPairs"]] == pytest.approx(expected, abs=0.05)
    assert max(map(abs, expected)) > 0.1


def summed(model: Any, side: Mapping[str, list[int]]) -> float:
    """The log-likelihood of what is counted, in nats."""
    with torch.no_grad():
        logits = model(torch.tensor([side["ids"]])).logits[0].float()
    logprobs = torch.log_softmax(logits, dim=-1)
    return sum(float(logprobs[at - 1, side["ids"][at]]) for at in side["counted"])


@pytest.mark.long
def test_guessed_tokens_change_no_answer(tmp_path: Path) -> None:
    base, reference = tmp_path / "base", tmp_path / "reference.json"
    make_base(base)
    make_reference(base, reference)

    result = verified(
        tmp_path / "attempt",
        folder=base,
        reference=reference,
        serving={"speculative": {"tokens": 3, "lookup": 2}},
        # Random weights find every token about as likely.
        spec={"verification": {"minAgreement": 0.0, "maxLogprobDifference": 2.0}},
    )

    assert result.outcome == "Succeeded", result.message
    settings: Any = result.facts["settings"]
    assert settings["speculative"] == {"method": "ngram", "tokens": 3, "lookup": 2}
    known = logprobs_of(tmp_path / "attempt" / "artifacts" / "fingerprints.json", "probes")
    assert distance(known, logprobs_of(reference, "prompts")) < 0.05
    guessing: Any = result.facts["guessing"]
    assert guessing["sameTokens"] == guessing["comparedTokens"]


@pytest.mark.long
def test_a_draft_guesses_the_tokens_of_its_model_and_changes_none(tmp_path: Path) -> None:
    base, reference = tmp_path / "base", tmp_path / "reference.json"
    make_base(base)
    make_reference(base, reference)
    pair: dict[str, Any] = {"serving": {"speculative": {"method": "draftModel", "tokens": 3}}}
    # Random weights find every token about as likely.
    bounds = {"verification": {"minAgreement": 0.0, "maxLogprobDifference": 2.0}}

    # It is its own draft: every guess is right.
    own = verified(
        tmp_path / "own",
        folder=base,
        reference=reference,
        spec=bounds,
        adapter={DRAFT.name: {"draft": base}},
        **pair,
    )

    assert own.outcome == "Succeeded", own.message
    guessing: Any = own.facts["guessing"]
    assert guessing["taken"] == guessing["guessed"] > 0
    assert guessing["sameTokens"] == guessing["comparedTokens"]
    assert guessing["alone"]["ratio"] > 0
    for way in ("alone", "together"):
        assert guessing[way]["costOfGuess"] >= 0
    assert "guessed tokens taken (" in own.message
    settings: Any = own.facts["settings"]
    assert settings["speculative"] == {"method": "draftModel", "tokens": 3}

    # Of another model hardly any is, and the answers are the same.
    other = with_a_head_of_its_own(make_tiny_model(tmp_path / "other"))
    guessed = verified(
        tmp_path / "guessed",
        folder=base,
        reference=reference,
        spec=bounds,
        adapter={DRAFT.name: {"draft": other}},
        **pair,
    )

    assert guessed.outcome == "Succeeded", guessed.message
    guessing = guessed.facts["guessing"]
    assert guessing["acceptance"] < 0.5
    assert guessing["sameTokens"] == guessing["comparedTokens"]
    known = logprobs_of(tmp_path / "guessed" / "artifacts" / "fingerprints.json", "probes")
    assert distance(known, logprobs_of(reference, "prompts")) < 0.05


def with_a_head_of_its_own(folder: Path) -> Path:
    """Small random models whose head is their table all say what they were told last."""
    config = LlamaConfig.from_pretrained(folder, tie_word_embeddings=False)
    torch.manual_seed(7)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def logprobs_of(path: Path, key: str) -> list[float]:
    return [value for probe in json.loads(path.read_text())[key] for value in probe["logprobs"]]


def distance(some: list[float], others: list[float]) -> float:
    """The mean absolute difference, in nats."""
    pairs = list(zip(some, others, strict=True))
    return sum(abs(one - other) for one, other in pairs) / len(pairs)
