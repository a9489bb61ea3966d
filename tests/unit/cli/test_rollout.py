"""`tunesmith rollout` and `chat` on a deployment as its folder tells of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from laptop import NAME, Laptop
from tunesmith_api.conditions import Condition
from tunesmith_api.modeldeployment.status import (
    CandidateStatus,
    MetricEvidence,
    ModelDeploymentStatus,
    RejectedVersion,
    RevisionStatus,
    VerdictStatus,
)
from tunesmith_cli.commands.chat import ChatError, answer_pieces
from tunesmith_cli.main import main
from tunesmith_cli.terminal.deployment import DeploymentLines, LiveDeployment, events
from tunesmith_cli.terminal.style import Style
from tunesmith_engine.deployment.observations import Command
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder
from tunesmith_engine.local.locks import lock_deployment

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
STABLE = RevisionStatus(
    revision="0a0a0a0a",
    version="v1",
    digest="sha256:1",
    uri="file:///v1",
    replicas=1,
    ready_replicas=1,
    weight=75,
    achieved_weight=74.0,
    since=NOW,
)
CANDIDATE = CandidateStatus(
    revision="0b0b0b0b",
    version="v2",
    digest="sha256:2",
    uri="file:///v2",
    replicas=1,
    ready_replicas=1,
    weight=25,
    achieved_weight=26.0,
    since=NOW,
    strategy="canary",
    state="Analyzing",
)
VERDICT = VerdictStatus(
    version="v2",
    revision="0b0b0b0b",
    decision="inconclusive",
    cause="EvidencePending",
    message="about 40 more requests would settle ttftP50",
    time=NOW,
    evidence=[
        MetricEvidence(
            metric="ttftP50",
            effect=0.041,
            lower=-0.2,
            upper=0.3,
            harm=0.9,
            promotion=12.5,
            stable=90,
            candidate=30,
        ),
        MetricEvidence(metric="errors", harm=1.0, promotion=1e9, stable=90, candidate=30),
    ],
)


def _status(phase: str = "Progressing", reason: str = "Analyzing") -> ModelDeploymentStatus:
    ready = Condition(
        type="Ready",
        status="False",
        reason=reason,
        message="v2: step 2 of 3",
        last_transition_time=NOW,
    )
    return ModelDeploymentStatus(
        phase=phase,
        conditions=[ready],
        stable=STABLE,
        candidate=CANDIDATE,
        last_verdict=VERDICT,
        rejected=[
            RejectedVersion(
                version="v0", revision="0c0c0c0c", reason="AnalysisFailed", message="slow", time=NOW
            )
        ],
        endpoint="http://127.0.0.1:8000/v1",
    )


@pytest.fixture
def folder(tmp_path: Path) -> DeploymentFolder:
    laptop = Laptop.of(tmp_path)
    laptop.write_manifest()
    stored = DeploymentFolder(laptop.folder)
    stored.write_status(_status())
    stored.manifest.write_text(laptop.manifest.read_text())
    return stored


@pytest.fixture
def home(folder: DeploymentFolder) -> list[str]:
    return ["--home", str(folder.path.parents[1])]


@contextmanager
def served(folder: DeploymentFolder) -> Iterator[None]:
    """As if `tunesmith deploy` ran."""
    with lock_deployment(folder.lock, deployment=NAME):
        yield


def test_the_status_shows_who_serves_and_on_what_evidence(
    folder: DeploymentFolder, home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with served(folder):
        code = main(["rollout", "status", NAME, *home])

    assert code == 0
    assert capsys.readouterr().out.splitlines() == [
        "desk: Progressing",
        "  Analyzing: v2: step 2 of 3",
        "",
        "             version  weight  achieved  ready  since",
        "  stable     v1       75 %    74 %      1/1    12:00:00 UTC",
        "  candidate  v2       25 %    26 %      1/1    12:00:00 UTC",
        "",
        f"  verdict on v2: inconclusive (EvidencePending), {VERDICT.message}",
        "  metric   effect  from     to       against  for     stable  candidate",
        "  ttftP50  +4.1 %  -20.0 %  +30.0 %  0.9      12.5    90      30",
        "  errors   -       -        -        1        >1e+06  90      30",
        "  rejected v0: AnalysisFailed, slow",
        "",
        "  endpoint http://127.0.0.1:8000/v1",
    ]


def test_the_status_as_json_is_the_whole_status(
    folder: DeploymentFolder, home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["rollout", "status", NAME, *home, "--output", "json"])

    told = json.loads(capsys.readouterr().out)
    assert (told["deployment"], told["served"]) == (NAME, False)
    assert told["candidate"]["version"] == "v2"
    assert told["recordings"] == []


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["pause", NAME], Command("pause")),
        (["promote", NAME, "v2"], Command("promote", "v2")),
        (["abort", NAME, "v2"], Command("abort", "v2")),
    ],
)
def test_what_is_asked_for_is_stored(
    folder: DeploymentFolder, home: list[str], words: list[str], command: Command
) -> None:
    with served(folder):
        assert main(["rollout", *words, *home]) == 0

    assert folder.read_command() == command


def test_resume_forgets_the_pause(folder: DeploymentFolder, home: list[str]) -> None:
    folder.write_command(Command("pause"))
    with served(folder):
        main(["rollout", "resume", NAME, *home])

    assert folder.read_command() is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["promote", NAME, "v3"], "'v3' is no candidate; the candidate is v2: tunesmith rollout"),
        (["abort", NAME], "abort needs the version; the candidate is v2"),
        (["pause", NAME, "v2"], "leave the version out"),
        (["status", "dask"], "did you mean 'desk'?"),
        (["status", "../desk"], "no deployment '../desk'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    folder: DeploymentFolder,
    home: list[str],
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(folder):
        assert main(["rollout", *words, *home]) == 2

    assert said in capsys.readouterr().err
    assert folder.read_command() is None


@pytest.mark.parametrize("words", [["rollout", "pause", NAME], ["chat", NAME]])
def test_without_anybody_who_serves_it_says_what_to_start(
    folder: DeploymentFolder, home: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *home]) == 2
    assert "start: tunesmith deploy FILE" in capsys.readouterr().err


def test_events_tell_each_change_once() -> None:
    before, after = _status(), _status("Serving", "Serving")
    rejected = RejectedVersion(
        version="v2", revision="0b0b0b0b", reason="AnalysisFailed", message="slow", time=NOW
    )
    after = after.model_copy(update={"candidate": None, "rejected": [*before.rejected, rejected]})

    assert list(events(before, before)) == []
    assert list(events(before, after)) == [
        "Serving: v2: step 2 of 3",
        "v2 is taken back (AnalysisFailed): slow",
    ]


def test_a_file_gets_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    with DeploymentLines(NAME, stream=sys.stdout) as display:
        display.show(_status())
        display.show(_status())

    assert capsys.readouterr().out.splitlines() == [
        "desk: listens at http://127.0.0.1:8000/v1",
        "desk: Progressing, Analyzing: v2: step 2 of 3",
        "desk: stable is v1",
    ]


def test_a_terminal_shows_the_status_and_the_last_events(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    display = LiveDeployment(
        NAME, stream=sys.stdout, style=Style(has_colour=False), clock=lambda: 5.0
    )
    for number in range(8):
        display.show(_status(reason=f"Reason{number}"))

    lines = display.lines(60)
    assert lines[0] == "desk · Progressing · 0.0 s"
    assert max(map(len, lines)) == 60
    assert [line.split()[-6] for line in lines[-5:]] == [f"Reason{n}:" for n in range(3, 8)]


def test_a_whole_stream_is_its_text() -> None:
    stream = [*_deltas("Turn ", "it off."), b"", b"data: [DONE]"]

    pieces = list(answer_pieces(iter(stream)))
    assert "".join(text for text, _ in pieces) == "Turn it off."
    assert pieces[-1][1] == "stop"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ([b'data: {"choices": [{"delta": {"content": "Tu"}}]}'], "broke off"),
        ([b'data: {"error": {"message": "dead"}}', b"data: [DONE]"], "dead"),
        (
            [b'data: {"choices": [{"delta": {}, "finish_reason": "abort"}]}', b"data: [DONE]"],
            "it ended with abort",
        ),
        ([b"data: [DONE]"], "it ended with no reason"),
    ],
)
def test_half_an_answer_is_no_answer(stream: list[bytes], said: str) -> None:
    with pytest.raises(ChatError, match=said):
        list(answer_pieces(iter(stream)))


def _deltas(*texts: str) -> Iterator[bytes]:
    for place, text in enumerate(texts):
        reason = "stop" if place == len(texts) - 1 else None
        choice = {"delta": {"content": text}, "finish_reason": reason}
        yield f"data: {json.dumps({'choices': [choice]})}\n".encode()
