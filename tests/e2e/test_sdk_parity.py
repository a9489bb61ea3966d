"""The OpenAI SDK, of two major versions, sees the same of real vLLM directly and through Envoy."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command import free_port, wait_until
from tunesmith_api.modeldeployment.engine import EngineArguments
from tunesmith_engine.deployment.observations import Route
from tunesmith_engine.local.envoy.config import HOST, Endpoint
from tunesmith_engine.local.envoy.proxy import Envoy

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
KEY = "a-key-of-this-test"
MODEL = "helpdesk"
OTHER_SDK = "openai>=2,<3"

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where vLLM serves a published version of a model of two layers."""
    folder, port = tmp_path_factory.mktemp("versions") / "v1", free_port()
    make = "import pathlib, served_version as s, sys; s.make_version(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [ROOT / ".venvs/trainer/bin/python", "-c", make, folder],
        check=True,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )
    arguments = EngineArguments(tool_call_parser="hermes").model_dump_json(
        by_alias=True, exclude_none=True
    )
    command = [str(ROOT / ".venvs/server/bin/python"), "-m", "tunesmith_serving", "serve"]
    command += [str(folder), "--port", str(port), "--engine-arguments", arguments]
    with (
        (folder.parent / "vllm.log").open("wb") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "VLLM_API_KEY": KEY}
        ) as process,
    ):
        try:
            wait_until(lambda: _is_ready(port), what="vLLM", timeout_s=400)
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def route(engine: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    envoy = Envoy(tmp_path_factory.mktemp("envoy"), port=port, admin_port=free_port())
    envoy.start()
    envoy.apply(Route({"0000000a": 100}), {"0000000a": [Endpoint(HOST, engine)]})
    yield port
    envoy.stop()


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the SDK's major version before the one of this environment."""
    folder = tmp_path_factory.mktemp("sdk") / "environment"
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder, OTHER_SDK], check=True)
    return folder / "bin" / "python"


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/tunesmith/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _seen(python: Path, port: int) -> dict[str, Any]:
    url = f"http://{HOST}:{port}/v1"
    done = subprocess.run(
        [python, SUPPORT / "sdk_scenarios.py", url, KEY, MODEL],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_both_major_versions_see_no_difference(engine: int, route: int, other_python: Path) -> None:
    versions = set()
    for python in (Path(sys.executable), other_python):
        direct, routed = _seen(python, engine), _seen(python, route)

        assert routed["outcomes"] == direct["outcomes"]
        versions.add(direct["openai"].partition(".")[0])
        outcomes = direct["outcomes"]
        assert outcomes["chat"]["choices"][0]["finish_reason"] in {"length", "stop"}
        assert outcomes["stream"]["last"]["usage"]["completion_tokens"] >= 1
        assert outcomes["logprobs"]["choices"][0]["logprobs"]["content"]
        # A random model fills a schema with white space until its tokens are used up.
        assert outcomes["schema"]["choices"][0]["message"]["content"].startswith("{")
        (call,) = outcomes["tools"]["choices"][0]["message"]["tool_calls"]
        assert call["function"]["name"] == "open_ticket"
        raised = {name: seen["raised"] for name, seen in outcomes.items() if "raised" in seen}
        assert raised == {
            "unknownModel": "NotFoundError",
            "badRequest": "BadRequestError",
            "wrongKey": "AuthenticationError",
        }
    assert versions == {"2", "3"}
