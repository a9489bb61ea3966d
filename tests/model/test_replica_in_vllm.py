"""The replica's middleware inside of real vLLM, and the stand-in held to what vLLM does.

Whatever can be seen over the wire is asked of both. A hang with /health at 200 (vllm#39863) comes
from outside here: the engine's process is stopped.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command import free_port
from http_fuzzing import Reply, hold
from openai_wire import KEY, WireAnswer, call, call_beside, shape
from replica_server import SERVER, Server, end, started, wait_for
from served_version import MODEL, make_version
from tool_template import HERMES
from tunesmith_engine.deployment.request_identity import SALT_VARIABLE
from tunesmith_engine.drift.signals import measure
from tunesmith_engine.drift.sketches import Sketch
from tunesmith_serving.replica.middleware import MIDDLEWARE
from tunesmith_serving.replica.rendered_chats import is_rendered, question, read_chats
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.settings import ServingSettings
from tunesmith_serving.tap.block_ring import REQUESTS_OF_BLOCK

ROOT = Path(__file__).parents[2]
CONTROL = ROOT / ".venv" / "bin" / "python"
STAND_IN = ROOT / "tests" / "support" / "stand_in_engine.py"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "ignore_eos": True}
IDS = {"model": MODEL, "prompt": [5, 6, 7], "max_tokens": 4}
SHUTDOWN_S = 60
SECRETS = {"VLLM_API_KEY": KEY, SALT_VARIABLE: "of the deployment"}

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions") / "helpdesk-v1"
    make_version(folder, chat_template=HERMES)
    return folder


def start_vllm(
    folder: Path,
    *,
    shutdown_timeout: int,
    compares: bool = False,
    progress_seconds: float = 120.0,
) -> Server:
    port = free_port()
    settings = ServingSettings.model_validate_json((folder / "serving.json").read_text())
    replica = ReplicaSettings(
        version=folder.name,
        model=MODEL,
        fingerprints=folder / "fingerprints.json",
        max_model_length=settings.max_model_length,
        probe_seconds=0.5,
        max_probe_seconds=0.5,
        stable_url=f"http://127.0.0.1:{port}" if compares else None,
        compare_seconds=0.5,
        progress_seconds=progress_seconds,
    )
    options = settings.command_line(
        folder, name=MODEL, host="127.0.0.1", port=port, shutdown_timeout=shutdown_timeout
    )
    command: list[str | Path] = [SERVER, "-m", "vllm.entrypoints.openai.api_server", *options]
    environment = {**settings.environment(), **replica.environment(), **SECRETS}
    return started([*command, "--middleware", MIDDLEWARE], environment, port, folder)


def start_stand_in(folder: Path, *, shutdown_timeout: int, compares: bool = False) -> Server:
    port = free_port()
    options = {
        "port": port,
        "version": folder.name,
        "model": MODEL,
        "fingerprints": folder / "fingerprints.json",
        "probe-seconds": 0.5,
        "shutdown-timeout": shutdown_timeout,
        # As slow as the real one, so that something is under way when it is stopped.
        "itl": 0.03,
        "compare-seconds": 0.5,
        **({"compare-with": f"http://127.0.0.1:{port}"} if compares else {}),
    }
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command: list[str | Path] = [CONTROL, STAND_IN, *given]
    return started(command, SECRETS, port, folder)


def engine_of(server: Server) -> int:
    """The process in which vLLM computes; it names itself."""
    pid = server.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"VLLM::EngineCore"):
            return int(child)
    raise AssertionError("vLLM has no process of its engine")


def wait_until_running(server: Server, num_requests: int) -> None:
    until = time.monotonic() + 20
    while call(server.port, "/tunesmith/state").json["running"] < num_requests:
        assert time.monotonic() < until
        time.sleep(0.05)


STARTS: dict[str, Callable[..., Server]] = {"vllm": start_vllm, "stand-in": start_stand_in}


@pytest.fixture(scope="module", params=STARTS)
def draining(request: pytest.FixtureRequest, version: Path) -> Iterator[Server]:
    """A server that ends what runs within seconds."""
    server = STARTS[request.param](version, shutdown_timeout=SHUTDOWN_S)
    yield server
    end(server)


# Of the real one a start for one test, which takes a minute.
BOTH_ENDS = [pytest.param("vllm", marks=pytest.mark.long), "stand-in"]


@pytest.fixture(params=BOTH_ENDS)
def aborting(request: pytest.FixtureRequest, version: Path) -> Iterator[Server]:
    """A server as vLLM is by default."""
    server = STARTS[request.param](version, shutdown_timeout=0)
    yield server
    end(server)


@pytest.fixture(params=BOTH_ENDS)
def hurried(request: pytest.FixtureRequest, version: Path) -> Iterator[Server]:
    """A server whose timeout is too short for what runs."""
    server = STARTS[request.param](version, shutdown_timeout=1)
    yield server
    end(server)


# Of vLLM, to hold the stand-in against: the real one is the first parameter of `draining`, and
# without it those of the stand-in fail.
SHAPES: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {**ASKED, "max_tokens": 8}),
        (COMPLETIONS, IDS),
        (COMPLETIONS, {**IDS, "prompt": [[5, 6], [7, 8]], "max_tokens": 1, "prompt_logprobs": 0}),
        (CHAT, {**ASKED, "max_tokens": 8, "stream": True}),
        (CHAT, {**ASKED, "max_tokens": 8, "stream": True, "stream_options": {"include_usage": 1}}),
        (COMPLETIONS, {**IDS, "ignore_eos": True, "stream": True}),
        (
            COMPLETIONS,
            {**IDS, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}},
        ),
        (CHAT, {**ASKED, "model": "other"}),
        (CHAT, '{"model":'),
        ("/v1/nothing", {}),
        ("/v1/models", None),
    ],
)
def test_answers_have_the_shape_of_vllm_and_tell_their_version(
    draining: Server, path: str, body: Any
) -> None:
    answer = call(draining.port, path, body)
    is_stream = answer.headers["content-type"].startswith("text/event-stream")
    seen = (answer.status, shape(answer.events if is_stream else answer.json))
    if draining.is_real:
        SHAPES[f"{path} {body}"] = seen

    assert answer.headers["x-tunesmith-version"] == draining.folder.name
    assert seen == SHAPES[f"{path} {body}"]


def test_a_known_chat_tells_whether_the_template_shows_tools(draining: Server) -> None:
    chats = read_chats(draining.folder / "fingerprints.json", max_model_length=None)
    (chat,) = [chat for chat in chats if chat.tools]
    asked = question(chat, model=MODEL)

    shown = call(draining.port, CHAT, asked)
    hidden = call(draining.port, CHAT, {**asked, "tools": None, "tool_choice": None})

    assert is_rendered(chat, shown.json)
    assert not is_rendered(chat, hidden.json)


def test_nobody_without_a_key_is_answered(draining: Server) -> None:
    answer = call(draining.port, CHAT, ASKED, key="guessed")

    assert (answer.status, answer.json) == (401, {"error": "Unauthorized"})
    assert answer.headers["x-tunesmith-version"] == draining.folder.name


def test_what_was_measured_is_what_was_answered(draining: Server) -> None:
    place = call(draining.port, "/tunesmith/samples").json["next"]
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    call(draining.port, CHAT, {**ASKED, "max_tokens": 20, **usage})
    call(draining.port, COMPLETIONS, {**IDS, "ignore_eos": True, "max_tokens": 6})
    call(draining.port, CHAT, {**ASKED, "model": "other"})
    call(draining.port, CHAT, ASKED, key="guessed")
    page = call(draining.port, f"/tunesmith/samples?after={place}").json

    streamed, whole, refused = page["samples"]
    assert streamed["outputTokens"] == 20
    assert 0 < streamed["itlSeconds"] < streamed["ttftSeconds"] + 1
    assert whole["outputTokens"] == 6
    assert refused["error"] is True
    assert streamed["cluster"] == whole["cluster"]
    assert not {"incomplete"} & (streamed.keys() | whole.keys())
    state = call(draining.port, "/tunesmith/state").json
    assert (state["running"], state["ready"], state["instance"]) == (0, True, page["instance"])


def test_what_drift_is_noticed_by_is_measured_of_every_answer(draining: Server) -> None:
    place = call(draining.port, "/tunesmith/drift").json["next"]
    # The stand-in has no model whose log-probabilities it could give.
    sure = {"logprobs": True, "top_logprobs": 5} if draining.is_real else {}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    for _ in range(2 * REQUESTS_OF_BLOCK):
        call(draining.port, CHAT, {**ASKED, "max_tokens": 4, **usage, **sure})
    page = call(draining.port, f"/tunesmith/drift?after={place}").json

    # The first block may have begun with requests of other tests.
    sketch = Sketch.model_validate(page["blocks"][-1]["sketch"])
    # "hi" has no word that is long enough, and stands for itself.
    expected = {"promptTokens", "outputTokens", "finishReason", "promptWords"}
    for name in expected | ({"logprob", "entropy"} if draining.is_real else set()):
        assert sum(sketch.signals[name]) == REQUESTS_OF_BLOCK
    four_tokens = measure(None, None, output_tokens=4, finish_reason="length")
    assert Sketch.of([four_tokens] * REQUESTS_OF_BLOCK).signals.items() <= sketch.signals.items()
    assert page["version"] == draining.folder.name


def test_counters_that_prove_progress_are_there(draining: Server) -> None:
    text = call(draining.port, "/metrics").body.decode()

    assert "\nvllm:generation_tokens_total{" in f"\n{text}"
    assert "\nvllm:iteration_tokens_total_count{" in f"\n{text}"


def test_only_the_fingerprints_of_the_version_make_it_ready(draining: Server) -> None:
    path = draining.folder / "fingerprints.json"
    text = path.read_text()
    known = json.loads(text)
    for probe in known["probes"]:
        probe["logprobs"] = [value - 3 for value in probe["logprobs"]]
    # As `watch` may read it at any moment.
    changed = path.with_suffix(".new")
    changed.write_text(json.dumps(known))
    try:
        if draining.is_real:
            changed.replace(path)
        else:
            call(draining.port, "/faults", {"nonsense": True})
        answer = wait_for(draining, "FingerprintMismatch")
        assert answer.status == 503
        assert "differ by 3.000 nats" in answer.json["message"]
    finally:
        path.write_text(text)
        if not draining.is_real:
            call(draining.port, "/faults", {"nonsense": False})
    wait_for(draining, "Ready")


def test_a_drain_ends_what_runs_and_turns_away_what_comes(draining: Server) -> None:
    """The last test of this server: it ends it."""
    port = draining.port
    asked = {**ASKED, "max_tokens": 400}
    streamed = call_beside(port, CHAT, {**asked, "stream": True})
    whole = [call_beside(port, CHAT, asked) for _ in range(6)]
    wait_until_running(draining, 7)
    assert call(port, "/tunesmith/drain", {}).status == 200
    assert call(port, "/tunesmith/ready").json["reason"] == "Draining"
    # A request is counted before its text is made into tokens.
    time.sleep(1)
    draining.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)

    # Text: what makes tokens of it has gone. Token ids come to the engine, which aborts them, or
    # was about to leave and never answers: which one is a race inside of vLLM.
    late = [
        call_beside(port, CHAT, ASKED),
        call_beside(port, COMPLETIONS, IDS),
        call_beside(port, COMPLETIONS, {**IDS, "stream": True}),
    ]
    assert call(port, "/health").status == 200

    stream = streamed.answer()
    assert stream is not None
    assert stream.events[-1] == "[DONE]"
    assert stream.events[-2]["choices"][0]["finish_reason"] == "length"
    for pending in whole:
        answer = pending.answer()
        assert answer is not None
        assert answer.json["choices"][0]["finish_reason"] == "length"

    assert all(is_turned_away(pending.answer(timeout=10)) for pending in late)


def is_turned_away(answer: WireAnswer | None) -> bool:
    """Whether nobody could take it for a whole answer."""
    if answer is None or answer.status >= 500:
        return True
    if answer.body.startswith(b"data: "):
        return answer.events == ["[DONE]"]
    return bool(answer.json["choices"][0]["finish_reason"] == "abort")


def test_after_its_timeout_what_is_left_is_cut_off(hurried: Server) -> None:
    """It is an error, or hangs until the server is killed: a grace period has to bear that."""
    long = [call_beside(hurried.port, CHAT, {**ASKED, "max_tokens": 480}) for _ in range(40)]
    wait_until_running(hurried, len(long))
    hurried.process.send_signal(signal.SIGTERM)
    time.sleep(5)

    rest = [pending.answer(timeout=0) for pending in long]
    assert any(answer is None or answer.status == 500 for answer in rest)


def test_without_a_drain_a_broken_answer_looks_whole_or_never_ends(aborting: Server) -> None:
    """Which of them is a race in vLLM between its engine's last words and its death."""
    asked = {**ASKED, "max_tokens": 400}
    streamed = call_beside(aborting.port, CHAT, {**asked, "stream": True})
    whole = call_beside(aborting.port, CHAT, asked)
    time.sleep(1.0)
    aborting.process.send_signal(signal.SIGTERM)
    stream, answer = streamed.answer(timeout=10), whole.answer(timeout=1)

    if stream is not None:
        assert (stream.status, stream.events[-1]) == (200, "[DONE]")
        last = stream.events[-2]
        assert "error" in last or last["choices"][0]["finish_reason"] == "abort"
    if answer is not None:
        assert answer.status == 500 or answer.json["choices"][0]["finish_reason"] == "abort"


@pytest.mark.parametrize("name", BOTH_ENDS)
def test_a_version_compared_with_itself_on_fixed_prompts_loses_nothing(
    version: Path, name: str
) -> None:
    """It is its own stable: what it asks itself is nobody's request."""
    server = STARTS[name](version, shutdown_timeout=0, compares=True)
    try:
        known = json.loads((version / "fingerprints.json").read_text())["probes"]
        # A busy machine misses its time limits, and a replica then takes its time.
        until = time.monotonic() + 200
        samples: list[dict[str, Any]] = []
        while len(samples) < len(known) and time.monotonic() < until:
            samples = call(server.port, "/tunesmith/samples").json["samples"]
            time.sleep(0.2)
        state = call(server.port, "/tunesmith/state").json
    finally:
        end(server)

    assert len({sample["fixedPrompt"] for sample in samples}) == len(known)
    assert [sample["qualityLoss"] for sample in samples] == pytest.approx(
        [0.0] * len(samples), abs=1e-3
    )
    assert state["accepted"] == 0


@pytest.mark.long
def test_an_engine_that_stands_still_or_dies_is_noticed(version: Path) -> None:
    server = start_vllm(version, shutdown_timeout=0, progress_seconds=10)
    try:
        engine = engine_of(server)
        os.kill(engine, signal.SIGSTOP)
        try:
            pending = call_beside(server.port, CHAT, {**ASKED, "max_tokens": 20})
            assert wait_for(server, "NoProgress", seconds=60).status == 503
            assert call(server.port, "/health").status == 200
            assert call(server.port, "/tunesmith/live").status == 503
        finally:
            os.kill(engine, signal.SIGCONT)
        wait_for(server, "Ready", seconds=60)
        answer = pending.answer()
        assert answer is not None
        assert answer.json["choices"][0]["finish_reason"] == "length"
        # A dead engine takes its server with it, in 0.32 with exit code 0, as if it had been asked.
        os.kill(engine, signal.SIGKILL)
        server.process.wait(timeout=60)
    finally:
        end(server)


@pytest.mark.long
def test_no_request_brings_the_server_down(version: Path) -> None:
    """What vLLM makes of a body is its own; what is ours answers, and the engine goes on."""
    server = start_vllm(version, shutdown_timeout=0)
    pages = ("ready", "live", "reference", "state", "samples?after=1&limit=2", "drift?after=0")
    own = [f"/tunesmith/{page}" for page in pages]
    targets = [*own, CHAT, COMPLETIONS, "/v1/models"]
    failed: list[bytes] = []

    def note(content: bytes, reply: Reply) -> None:
        if reply.is_our_failure:
            failed.append(content)

    try:
        hold(
            server.port,
            [target.encode() for target in targets],
            note,
            headers=[f"Authorization: Bearer {KEY}".encode()],
            examples=2000,
        )
        wait_for(server, "Ready", seconds=60)
        answer = call(server.port, CHAT, {**ASKED, "max_tokens": 2})
    finally:
        end(server)

    assert [content for content in failed if b"/v1/" not in content] == []
    assert answer.json["choices"][0]["finish_reason"] == "length"
