"""The export stage as a process of the edge environment: every format of a tiny model."""

import json
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from architectures import make_architecture
from prepare_stage import Prepared
from small_models import CHATML, make_tiny_tokenizer
from tuned_job import make_tuned_job, request_for
from tunesmith_api.finetunejob.export import PRECISIONS, Export
from tunesmith_engine.stages.catalog import EXPORT, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_trainer.export.formats import LITERT_ARCHITECTURES
from tunesmith_trainer.export.litert_writer import template_of

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venvs/edge/bin/python"
ALL = [
    {"format": name, "precision": precision}
    for name, precisions in PRECISIONS.items()
    for precision in precisions
]

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not PYTHON.exists(), reason="no edge environment; run: make setup-edge"),
]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_job(tmp_path_factory.mktemp("tuned"))


def run_stage(job: Path, attempt: Path, **export: Any) -> StageResult:
    return run_request(
        request_for(job, EXPORT.name, output=attempt / "artifacts", export=export), attempt
    )


def run_request(request: StageRequest, attempt: Path) -> StageResult:
    path = attempt / "request.json"
    path.write_text(request.model_dump_json(by_alias=True))
    command = [str(PYTHON), "-m", "tunesmith_trainer", "export", str(path)]
    subprocess.run(command, cwd=attempt, env=os.environ, check=False, timeout=900)
    return StageResult.model_validate_json((attempt / "result.json").read_text())


@pytest.fixture(scope="module")
def exported(job: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageResult, Path]:
    attempt = tmp_path_factory.mktemp("exported")
    result = run_stage(job, attempt, formats=ALL, gate={"maxLossRise": 1.0})
    assert result.outcome == "Succeeded", result.message
    return result, attempt / "artifacts"


def formats_of(result: StageResult) -> dict[str, Any]:
    told: Any = result.facts["formats"]
    return {each["name"]: each for each in told}


def test_every_format_is_written_run_and_measured(exported: tuple[StageResult, Path]) -> None:
    result, output = exported

    told = formats_of(result)
    assert list(told) == [f"{each['format']}-{each['precision']}" for each in ALL]
    for name, each in told.items():
        assert (
            sum(f.stat().st_size for f in (output / name).rglob("*") if f.is_file())
            == (each["bytes"])
        )
        assert each["tokensPerSecond"] > 0
        assert each["promptTokensPerSecond"] > 0
        assert each["peakMemoryBytes"] > 1 << 20
        assert each["digest"] == result.artifact(name).digest
    assert {each.split for each in result.evaluation} == set(told)


def test_onnx_in_fp32_says_what_transformers_says(exported: tuple[StageResult, Path]) -> None:
    told = formats_of(exported[0])["onnx-fp32"]

    assert told["agreedTokens"] == told["comparedTokens"] == 4 * 64
    assert told["loss"] == pytest.approx(told["tunedLoss"], abs=1e-4)


def test_litert_in_fp32_says_what_transformers_says(exported: tuple[StageResult, Path]) -> None:
    told = formats_of(exported[0])["litert-fp32"]

    assert told["agreedTokens"] == told["comparedTokens"] == 4 * 64
    assert told["loss"] == pytest.approx(told["tunedLoss"], abs=1e-4)


def test_litert_rounds_to_eight_bits(exported: tuple[StageResult, Path]) -> None:
    told = formats_of(exported[0])

    assert told["litert-int8"]["bytes"] < told["litert-fp32"]["bytes"]
    assert told["litert-int8"]["loss"] != told["litert-fp32"]["loss"]


def test_a_file_for_litert_has_nothing_of_the_clock_in_it(
    exported: tuple[StageResult, Path], job: Path, tmp_path: Path
) -> None:
    wanted = {"format": "litert", "precision": "int8"}

    again = run_stage(job, tmp_path, formats=[wanted], gate={"maxLossRise": 1.0})

    assert again.outcome == "Succeeded", again.message
    assert again.artifact("litert-int8").digest == exported[0].artifact("litert-int8").digest


TALK = [
    {"role": "user", "content": "My screen stays dark."},
    {"role": "assistant", "content": "Check its cable."},
    {"role": "user", "content": 'It "is" plugged in.'},
]
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start|>' + message['role'] + '\n\n' "
    "+ message['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n\n' }}{% endif %}"
)
# A system prompt in front, answers with marks of what is trained, and a setting that few give.
QWEN = (
    "{%- if messages[0].role == 'system' %}{{- '[' + messages[0].content + ']' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role == 'assistant' %}{% generation %}"
    "{{- '<a>' + message.content + eos_token }}{% endgeneration %}"
    "{%- else %}{{- '<u>' + message.content + '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<a>' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '!' }}{%- endif %}"
    "{%- endif %}"
)


@pytest.mark.parametrize("template", [CHATML, LLAMA_3, QWEN], ids=["chatml", "llama3", "qwen"])
def test_litert_lm_writes_a_conversation_as_transformers_does(
    exported: tuple[StageResult, Path], tmp_path: Path, template: str
) -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template
    told = tmp_path / "told.json"
    told.write_text(json.dumps({"template": template_of(tokenizer), "messages": TALK}))
    file = exported[1] / "litert-fp32" / "model.litertlm"

    ran = subprocess.run(
        [str(PYTHON), "-c", RENDER, str(file), str(told)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == tokenizer.apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=True
    )


# The last message behind the others, as LiteRT-LM would read them.
RENDER = """
import json, sys, tempfile
import litert_lm

told = json.load(open(sys.argv[2]))
*before, last = told["messages"]
with tempfile.TemporaryDirectory() as cache:
    with litert_lm.Engine(sys.argv[1], cache_dir=cache) as engine:
        with engine.create_conversation(messages=[*before], chat_template=told["template"]) as talk:
            print(json.dumps(talk.render_message_to_string(last)))
"""


def test_llama_cpp_says_what_transformers_says_of_the_file(
    exported: tuple[StageResult, Path],
) -> None:
    told = formats_of(exported[0])["gguf-F16"]

    assert told["agreedTokens"] >= 0.5 * told["comparedTokens"]


def test_what_a_version_keeps_depends_on_no_clock(exported: tuple[StageResult, Path]) -> None:
    kept = json.loads((exported[1] / "exports.json").read_text())

    assert [each["name"] for each in kept] == list(formats_of(exported[0]))
    assert "tokensPerSecond" not in kept[0]
    assert "loss" in kept[0]


def test_the_example_answers_from_the_files_alone(
    exported: tuple[StageResult, Path], tmp_path: Path
) -> None:
    for name in ("onnx-int4", "gguf-Q8_0", "litert-int8"):
        ran = subprocess.run(
            [str(PYTHON), str(exported[1] / name / "chat.py"), "--ask", "My screen stays dark."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        # A model of random weights may well answer with line breaks alone.
        assert ran.stdout
        assert artifact_of(name, exported[1] / name).digest == exported[0].artifact(name).digest


def test_a_target_that_cannot_be_met_is_refused(job: Path, tmp_path: Path) -> None:
    wanted = [{"format": "gguf", "precision": "F16"}]

    result = run_stage(job, tmp_path, formats=wanted, maxMemory="1Mi")

    assert (result.outcome, result.reason) == ("Failed", "ExportTargetMissed")
    assert "maxMemory: 1Mi" in result.message


def succeeded(stage: StageName, **artifacts: Path) -> StageResult:
    return StageResult(
        stage=stage, key="0" * 64, attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.heavy
def test_the_135m_model_answers_alike_in_fp32_and_is_smaller_in_fewer_bits(
    prepared: Prepared, tmp_path: Path
) -> None:
    """Its tokenizer splits digits, and its head is tied to its embedding."""
    # What four bits lose of so small a model is more than the default gate lets pass.
    settings = {"formats": ALL, "rows": 16, "gate": {"maxLossRise": 1.0}}
    spec = prepared.request.spec.model_copy(update={"export": Export.model_validate(settings)})
    output = tmp_path / "artifacts"
    output.mkdir()
    request = prepared.request.model_copy(
        update={
            "stage": EXPORT.name,
            "spec": spec,
            "inputs": {
                PREPARE.name: succeeded(PREPARE.name).model_copy(
                    update={"artifacts": prepared.outcome.artifacts}
                ),
                # Without training: what it says is as hard to keep.
                TRAIN.name: succeeded(TRAIN.name, tuned=prepared.model),
            },
            "output": str(output),
            "result": str(tmp_path / "result.json"),
        }
    )

    result = run_request(request, tmp_path)

    assert result.outcome == "Succeeded", result.message
    told = formats_of(result)
    assert not told["onnx-fp32"]["differs"]
    assert not told["litert-fp32"]["differs"]
    assert told["litert-int8"]["bytes"] < 0.6 * told["litert-int8"]["bf16Bytes"]
    sizes = [told[name]["bytes"] for name in ("gguf-F16", "gguf-Q8_0", "gguf-Q4_0")]
    assert sizes == sorted(sizes, reverse=True)
    assert told["gguf-Q8_0"]["bytes"] < 0.6 * told["gguf-Q8_0"]["bf16Bytes"]
    rises = {name: each["loss"] - each["tunedLoss"] for name, each in told.items()}
    assert abs(rises["litert-fp32"]) < 0.001
    assert abs(rises["gguf-Q8_0"]) < 0.1
    assert rises["gguf-Q8_0"] < rises["gguf-Q4_0"] < 1.0
    assert rises["litert-int8"] < 0.2


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(LITERT_ARCHITECTURES))
def test_litert_says_what_transformers_says_of_each_architecture(name: str, tmp_path: Path) -> None:
    job = make_tuned_job(tmp_path / "job", make_model=partial(make_architecture, name))

    result = run_stage(job, tmp_path, formats=[{"format": "litert", "precision": "fp32"}])

    assert result.outcome == "Succeeded", result.message
    told = formats_of(result)["litert-fp32"]
    assert told["tokenizesAlike"]
    assert not told["differs"]
