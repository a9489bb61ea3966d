"""`tunesmith explain`: what moves a model's answers, of a job's rows or of one text.

Of a job it shows what the stage `explain` has found; a text is explained at once by the trainer's
Python. A model that is quantized is explained by the weights that it was made from.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tunesmith_api.finetunejob.explain import Explain
from tunesmith_cli.commands.serve import published_folder
from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.formats import counted, number, percent
from tunesmith_cli.inputs import find_deployment, find_job
from tunesmith_cli.report.job_data import JobData, read_job_data
from tunesmith_cli.terminal.style import plain, table
from tunesmith_engine.local.asked_explanation import ModelFolders, explain_text
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.stages.catalog import EXPLAIN, PREPARE, TRAIN
from tunesmith_engine.stages.digests import local_path

_ADAPTER: Final = "adapter_config.json"
_LONGEST_UNIT: Final = 40
_NO_CAUSE: Final = "attention is no explanation of a cause"


def run(options: argparse.Namespace) -> int:
    """Explain the text that is given, or show what was found of the job's rows."""
    as_json = options.output == "json"
    _refuse_idle(options)
    if options.text is not None:
        told = _explained_text(options)
        print(json.dumps(told, indent=1) if as_json else row_as_text(told, shows_words=True))
        return EXIT_DONE
    job = find_job(options.name, root=options.home)
    found = _found(read_job_data(job.folder, job.status))
    if options.row is None:
        print(json.dumps(_without_rows(found), indent=1) if as_json else summary_as_text(found))
        return EXIT_DONE
    row = _row(found, options.row)
    shown = row if options.show else _without_words(row)
    print(json.dumps(shown, indent=1) if as_json else row_as_text(shown, shows_words=options.show))
    return EXIT_DONE


def _refuse_idle(options: argparse.Namespace) -> None:
    """Every option that is given has to do something."""
    if options.text is not None:
        idle, rule = {"--row": options.row, "--show": options.show}, "given with a text"
    else:
        idle, rule = {"--answer": options.answer, "--units": options.units}, "given without a text"
        if options.row is None:
            idle["--show"] = options.show
            rule = "given without a text or a row"
    given = [name for name, value in idle.items() if value]
    if given:
        raise CommandError(f"{given[0]}: {rule}, where it says nothing; leave it out")


def _explained_text(options: argparse.Namespace) -> dict[str, Any]:
    settings = Explain(attention=False, units=options.units or "auto")
    return explain_text(
        model_of(options.name, root=options.home),
        options.text,
        answer=options.answer,
        settings=settings,
        environments=Environments.discover(),
    )


def model_of(name: str, *, root: Path) -> ModelFolders:
    """The weights of a job, or of the job whose version a deployment serves, before quantization.

    Raises:
        CommandError: there is no such job or deployment, or its weights are gone.
    """
    home = HomeFolder(root)
    if name in home.list_jobs() or name not in home.list_deployments():
        return _model_of_job(name, root=root)
    stable = find_deployment(name, root=root).status.stable
    if stable is None:
        raise CommandError(f"deployment '{name}' serves no version; give the name of a job")
    for job in home.list_jobs():
        stored = find_job(job, root=root)
        version = read_job_data(stored.folder, stored.status).published
        if version is not None and version.digest == stable.digest:
            return _model_of_job(job, root=root)
    raise CommandError(
        f"deployment '{name}' serves version {stable.version}, whose job is not in {root}: its "
        "weights before quantization are needed; give --home of the job"
    )


def _model_of_job(name: str, *, root: Path) -> ModelFolders:
    stored = find_job(name, root=root)
    job = read_job_data(stored.folder, stored.status)
    prepared, trained = job.results.get(PREPARE.name), job.results.get(TRAIN.name)
    if prepared is None or trained is None or trained.outcome != "Succeeded":
        raise CommandError(f"job '{name}' has trained no model yet; run it first")
    uris = [prepared.artifact("model"), trained.artifact("tuned")]
    if not all(artifact.uri.startswith("file://") for artifact in uris):
        raise CommandError(f"the model of job '{name}' is not on this machine; explain it there")
    base, tuned = map(local_path, uris)
    gone = [folder for folder in (base, tuned) if not folder.is_dir()]
    if gone:
        return _published_model(job, gone=gone[0])
    is_adapter = (tuned / _ADAPTER).is_file()
    return ModelFolders(base, tuned) if is_adapter else ModelFolders(tuned)


def _published_model(job: JobData, *, gone: Path) -> ModelFolders:
    """What was published, where the job's own weights are gone and it is not quantized."""
    remedy = f"job '{job.name}' has no model left: {gone} is gone; run the job again"
    if job.published is None or not job.published.uri.startswith("file://"):
        raise CommandError(remedy)
    folder = published_folder(job)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(remedy) from error
    if "quantization_config" in config:
        raise CommandError(f"{remedy}: of its quantized version there are no gradients")
    return ModelFolders(folder)


def _found(job: JobData) -> dict[str, Any]:
    result = job.results.get(EXPLAIN.name)
    if result is None or result.outcome != "Succeeded":
        raise CommandError(
            f"job '{job.name}' has explained no rows; set evaluation.explain and run it again, or "
            'give a text: tunesmith explain JOB "text"'
        )
    path = local_path(result.artifact("explanations"))
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(
            f"{path} cannot be read; run the job again with --force --from explain"
        ) from error
    return {**rows, "summary": result.facts}


def _row(found: Mapping[str, Any], wanted: int) -> dict[str, Any]:
    for row in found["rows"]:
        if row["row"] == wanted:
            return dict(row)
    known = ", ".join(str(row["row"]) for row in found["rows"])
    raise CommandError(f"--row: held-out row {wanted} was not explained; there are {known}")


def _without_rows(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {"row": row["row"], "source": row["source"], "loss": row["loss"]} for row in found["rows"]
    ]
    return {**found["summary"], "explained": rows}


def _without_words(row: Mapping[str, Any]) -> dict[str, Any]:
    units = [{key: value for key, value in unit.items() if key != "text"} for unit in row["units"]]
    kept = {key: value for key, value in row.items() if key != "answer"}
    return {**kept, "units": units}


def summary_as_text(found: Mapping[str, Any]) -> str:
    """Faithfulness by method, places, and which rows there are."""
    summary = found["summary"]
    methods = [
        ("method", "deletion", "random", "insertion", "random", "stability"),
        *(
            (
                told["method"],
                number(told["deletionArea"]),
                number(told["deletionRandom"]),
                number(told["insertionArea"]),
                number(told["insertionRandom"]),
                "–" if told["stability"] is None else number(told["stability"]),
            )
            for told in summary["methods"]
        ),
    ]
    places = [
        ("place", "rows", "nats per token"),
        *((told["place"], str(told["rows"]), number(told["effect"])) for told in _places(found)),
    ]
    rows = [
        ("row", "source", "loss"),
        *((str(row["row"]), plain(row["source"]), number(row["loss"])) for row in found["rows"]),
    ]
    head = f"{counted(summary['rows'], 'row')} explained with {summary['passes']:,} forward passes"
    return "\n\n".join([head, table(methods), table(places), table(rows)])


def _places(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    places: Sequence[Mapping[str, Any]] = found["global"]["places"]
    return places


def row_as_text(row: Mapping[str, Any], *, shows_words: bool) -> str:
    """A line for each unit with what every method says of it, and how faithful that is."""
    methods = row["methods"]
    lines = [
        (unit_name(unit, shows_words=shows_words), *(f"{m['scores'][at]:+.3f}" for m in methods))
        for at, unit in enumerate(row["units"])
    ]
    kind = row["unitKind"].removesuffix("s")
    faithful = [
        ("method", "estimator", "deletion", "insertion", "beats random", "stability"),
        *(
            (
                told["method"],
                told["estimator"],
                number(told["deletion"]["value"]),
                number(told["insertion"]["value"]),
                percent(told["deletion"]["beats"]),
                "–" if told["stability"] is None else number(told["stability"]),
            )
            for told in methods
        ),
    ]
    worth = (
        f"log-likelihood of the answer {number(row['value'])} nats per token, without any of these "
        f"{number(row['withoutUnits'])}"
    )
    head = f"answer: {plain(row['answer'])}\n{worth}" if shows_words else worth
    note = [_NO_CAUSE] if "attention" in row else []
    named = table([(kind, *(told["method"] for told in methods)), *lines])
    return "\n\n".join([head, named, table(faithful), *note])


def unit_name(unit: Mapping[str, Any], *, shows_words: bool) -> str:
    """The unit's words, cut, or its place."""
    if not shows_words:
        return f"{unit['role']}, turn {unit['turn']}, {unit['place']}"
    said = plain(unit["text"])
    return said if len(said) <= _LONGEST_UNIT else f"{said[: _LONGEST_UNIT - 1]}…"
