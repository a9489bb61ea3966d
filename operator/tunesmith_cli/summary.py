"""How a job ended, for people and for programs; the last thing that `run` says.

`status` says the same about a job that is looked at later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.results import Artifact, EvaluationResult
from tunesmith_cli.formats import duration, number, size
from tunesmith_cli.measures import in_order, name_of
from tunesmith_cli.outlook import outlook_of
from tunesmith_cli.report.evidence import Evidence
from tunesmith_cli.terminal import Style, plain, table
from tunesmith_engine.stages.catalog import PUBLISH


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known at the end: the evidence, the report, and where the logs of a failure lie.

    `command` is how the next command starts, with the home folder where it is not the usual one.
    """

    evidence: Evidence
    report: Path
    log: Path | None
    home_option: str = ""

    @property
    def status(self) -> FineTuneJobStatus:
        return self.evidence.status


def as_json(ending: Ending) -> dict[str, JsonValue]:
    """The one object that `run --output json` prints."""
    status = ending.status.model_dump(mode="json", by_alias=True)
    outlook = outlook_of(ending.status)
    fields = ("name", "key", "state", "cached", "seconds", "attempt", "reason", "message")
    return {
        "job": ending.evidence.name,
        "phase": status["phase"],
        "reason": outlook.reason,
        "message": outlook.message,
        "conditions": status["conditions"],
        "evaluation": status["evaluation"],
        "artifacts": status["artifacts"],
        "stages": [{field: each[field] for field in fields} for each in status["stages"]],
        "warnings": status["warnings"],
        "report": str(ending.report),
        "modelVersion": status["modelVersion"],
    }


def as_text(ending: Ending, *, style: Style) -> str:
    """Outcome, numbers, where everything is, and the next command."""
    blocks = [
        _headline(ending, style=style),
        evaluation_table(ending.status.evaluation),
        "\n".join(
            f"{style.paint('warning', 'yellow')}  {plain(each)}" for each in _warnings(ending)
        ),
        table(list(_places(ending))),
    ]
    return "\n\n".join(block for block in blocks if block)


def evaluation_table(results: list[EvaluationResult]) -> str:
    """Base, tuned and compressed value of every measure; empty without any."""
    found = in_order(results)
    rows = []
    for name in dict.fromkeys(map(name_of, found)):
        tuned = _only(found, name=name, split="tuned")
        compressed = _only(found, name=name, split="compressed")
        base = number(tuned.base) if tuned and tuned.base is not None else ""
        rows.append((name, base, *_value(tuned), *_value(compressed)))
    if not rows:
        return ""
    return table([("measure", "base", "tuned", "interval", "compressed", "interval"), *rows])


def published(evidence: Evidence) -> Artifact | None:
    """The published version of the job's model."""
    result = evidence.results.get(PUBLISH.name)
    found = result.artifacts if result and result.outcome == "Succeeded" else []
    return next((each for each in found if each.name == "version"), None)


def _headline(ending: Ending, *, style: Style) -> str:
    status, outlook = ending.status, outlook_of(ending.status)
    colours: dict[str, str] = {Phase.SUCCEEDED: "green", Phase.FAILED: "red"}
    colour = colours.get(status.phase, "yellow")
    spent = _spent(status)
    lines = [
        f"{ending.evidence.name}: {style.paint(status.phase, 'bold', colour)}"
        + (f" in {spent}" if spent else "")
    ]
    if status.phase != Phase.SUCCEEDED and outlook.reason:
        lines.append(f"  {style.paint(outlook.reason, 'bold')}: {plain(outlook.message)}")
        if outlook.remedy:
            lines.append(f"  What to do: {outlook.remedy}")
    return "\n".join(lines)


def _spent(status: FineTuneJobStatus) -> str:
    if status.start_time is None or status.completion_time is None:
        return ""
    return duration((status.completion_time - status.start_time).total_seconds())


def _warnings(ending: Ending) -> list[str]:
    return list(dict.fromkeys(ending.status.warnings))


def _places(ending: Ending) -> Iterator[tuple[str, str]]:
    version = published(ending.evidence)
    if version:
        yield "model", f"{version.uri.removeprefix('file://')} ({size(version.bytes)})"
    if ending.log:
        yield "log", str(ending.log)
    yield "report", str(ending.report)
    if version:
        yield "next", f"tunesmith serve {ending.evidence.name}{ending.home_option}"


def _only(results: list[EvaluationResult], *, name: str, split: str) -> EvaluationResult | None:
    return next((each for each in results if name_of(each) == name and each.split == split), None)


def _value(result: EvaluationResult | None) -> tuple[str, str]:
    if result is None:
        return "", ""
    if result.low is None or result.high is None:
        return number(result.value), ""
    return number(result.value), f"{number(result.low)} – {number(result.high)}"
