"""`tunesmith search advise`: what a search would start from, and why; and `export` of its trials.

The decisions are the engine's, in `tunesmith_engine.search_memory`; a search makes the same ones
when it begins.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.search import Parameter, Search
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.formats import counted, number, percent
from tunesmith_cli.inputs import find_job, open_manifest
from tunesmith_cli.report.job_data import SEARCH_STAGE, read_job_data
from tunesmith_cli.terminal.style import plain, table
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.job_memory import record_of_job
from tunesmith_engine.local.search_memory_file import memory_file, read_memory
from tunesmith_engine.search_memory.distances import FARTHEST, Neighbour, nearest
from tunesmith_engine.search_memory.proposals import Proposal, most_proposals, proposals
from tunesmith_engine.search_memory.recording import task_of
from tunesmith_engine.search_memory.records import PastJob, Task
from tunesmith_engine.search_memory.space import Space
from tunesmith_engine.search_memory.spec_space import space_of
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError

# The journal of Optuna among the artifacts of a search.
_STUDY: Final = "study"
# What is searched first of a job that has no search: the fields that matter most.
_USUAL: Final = (
    Parameter(field="training.optimizer.learningRate", minimum=1e-6, maximum=1e-2, log=True),
    Parameter(field="training.batch.size", values=[4, 8, 16, 32, 64, 128]),
    Parameter(field="training.epochs", minimum=0.5, maximum=10, log=True),
)
_OF_ADAPTERS: Final = Parameter(field="training.lora.rank", values=[4, 8, 16, 32, 64, 128])


@dataclass(frozen=True, slots=True)
class Advice:
    """What memory has for a job: how many records, which are near, and what it would propose.

    Of `budget` trials memory may choose `most`.
    """

    job: str
    num_records: int
    budget: int
    most: int
    has_search: bool
    neighbours: Sequence[Neighbour]
    proposals: Sequence[Proposal]


def run(options: argparse.Namespace) -> int:
    """Print the advice, or export the study."""
    if options.action == "export":
        return _export(
            options.job, options.file, home=HomeFolder(options.home), form=options.output
        )
    if options.file is not None:
        raise CommandError(f"search advise writes no file; leave {options.file} out")
    advice = advise(options.job, home=HomeFolder(options.home))
    as_json = options.output == "json"
    print(json.dumps(advice_as_json(advice), indent=1) if as_json else advice_as_text(advice))
    return EXIT_DONE


def _export(named: str, file: Path | None, *, home: HomeFolder, form: str) -> int:
    if file is None:
        raise CommandError("search export needs a file to write: tunesmith search export JOB FILE")
    stored = find_job(named, root=home.root)
    result = read_job_data(stored.folder, stored.status).results.get(SEARCH_STAGE)
    study = (
        next((each for each in result.artifacts if each.name == _STUDY), None) if result else None
    )
    if study is None:
        raise CommandError(
            f"job '{named}' has no finished search, and so nothing to export; give a job with "
            "spec.search, or run it to its end"
        )
    try:
        # NB: refused where it is there: it may be a journal that others write into.
        with file.open("xb") as copy:
            copy.write(local_path(study).read_bytes())
    except FileExistsError as error:
        raise CommandError(f"{file} exists; give another name, or remove it") from error
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error
    told = {"job": named, "file": str(file), "bytes": study.bytes}
    print(json.dumps(told) if form == "json" else f"{file}: open it with optuna-dashboard {file}")
    return EXIT_DONE


def advise(named: str, *, home: HomeFolder) -> Advice:
    """What a search of the manifest, or of the job of that name, would start from.

    Raises:
        CommandError: there is no such manifest and no such job, or the space is not sound.
        LocalError: the memory is of a newer release.
    """
    job, task, uid = _task(named, home=home)
    # A job is no neighbour of its own: it would advise itself.
    records = [record for record in read_memory(memory_file(home)) if record.uid != uid]
    search = job.spec.search or _usual_search(job.spec)
    neighbours = nearest(records, task, num=search.memory.max_sources)
    most = most_proposals(search)
    return Advice(
        job=job.metadata.name,
        num_records=len(records),
        budget=search.budget.max_trials,
        most=most,
        has_search=job.spec.search is not None,
        neighbours=neighbours,
        proposals=proposals(neighbours, task, _space(job, search), most),
    )


def _usual_search(spec: FineTuneJobSpec) -> Search:
    adapters = [] if spec.training.method == "full" else [_OF_ADAPTERS]
    return Search(parameters=[*_USUAL, *adapters])


def _space(job: FineTuneJob, search: Search) -> Space:
    spec = job.spec.model_copy(update={"search": search})
    try:
        return space_of(spec.with_defaults())
    except BadInputError as error:
        raise CommandError(f"job '{job.metadata.name}': {error.message}") from error


def _task(named: str, *, home: HomeFolder) -> tuple[FineTuneJob, Task, str]:
    """The job, its task as far as it is known, and the uid of its own record."""
    if named == "-" or Path(named).exists():
        job = open_manifest(Path(named)).job
        return job, task_of(job.spec, {}), ""
    stored = find_job(named, root=home.root)
    seen = read_job_data(stored.folder, stored.status)
    if seen.job is None:
        raise CommandError(
            f"the manifest of job '{named}' in {stored.folder / 'manifest.yaml'} cannot be read; "
            "give the manifest in place of its name"
        )
    own = record_of_job(seen.job, stored.status, home=home)
    if own is not None:
        return seen.job, own.task, own.uid
    prepared = seen.results.get("prepare")
    return seen.job, task_of(seen.job.spec, prepared.facts if prepared else {}), ""


def advice_as_text(advice: Advice) -> str:
    """Which earlier jobs are near, and what they would have tried, in tables."""
    head = f"{counted(advice.num_records, 'earlier job')} in memory"
    if not advice.neighbours:
        return f"{head}; none is near enough: a search of {plain(advice.job)} starts from nothing"
    near = [
        (
            plain(each.record.job),
            f"{each.distance:.2f}",
            f"{len(each.record.trials):,}",
            _best(each),
        )
        for each in advice.neighbours
    ]
    within = f"within {FARTHEST:g} standard deviations of {plain(advice.job)}"
    blocks = [
        f"{head}, {len(near)} of them {within}",
        table([("job", "distance", "trials", "best"), *near]),
    ]
    if not advice.proposals:
        why = (
            "none of their settings lies in the space"
            if advice.most
            else "spec.search leaves memory no trial (memory, method or budget.maxTrials)"
        )
        return "\n\n".join((*blocks, f"nothing to start from: {why}"))
    where = "spec.search" if advice.has_search else "the usual space, for it has no spec.search"
    blocks.append(
        f"of {advice.budget} trials within {where}, memory would propose "
        f"{len(advice.proposals)}, until the sampler's do better:"
    )
    return "\n\n".join((*blocks, *map(_proposal, range(1, 1000), advice.proposals)))


def _best(neighbour: Neighbour) -> str:
    task = neighbour.record.task
    values = [trial.value for trial in neighbour.record.trials if trial.value is not None]
    if not values:
        return "none"
    best = min(values) if task.direction == "minimize" else max(values)
    return f"{plain(task.measure)} {number(best)}"


def _proposal(place: int, proposal: Proposal) -> str:
    gain = "" if proposal.gain is None else f", {percent(proposal.gain)} better than its median"
    others = [job for job in proposal.supporters if job != proposal.source]
    agreed = f"; also good for {', '.join(map(plain, others))}" if others else ""
    settings = table([(f"  {path}", _value(v)) for path, v in proposal.settings.items()])
    return f"{place}. from {plain(proposal.source)}{gain}{agreed}\n{settings}"


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else plain(str(value))


def advice_as_json(advice: Advice) -> dict[str, JsonValue]:
    """The one object that `search advise --output json` prints."""
    return {
        "job": advice.job,
        "records": advice.num_records,
        "budget": advice.budget,
        "hasSearch": advice.has_search,
        "nearest": [_neighbour_as_json(each.record, each.distance) for each in advice.neighbours],
        "proposals": [
            {
                "settings": dict(each.settings),
                "sourceJob": each.source,
                "distance": round(each.distance, 4),
                "score": round(each.score, 4),
                "gain": None if each.gain is None else round(each.gain, 4),
                "supporters": list(each.supporters),
            }
            for each in advice.proposals
        ],
    }


def _neighbour_as_json(record: PastJob, distance: float) -> dict[str, JsonValue]:
    return {
        "job": record.job,
        "distance": round(distance, 4),
        "trials": len(record.trials),
        "task": record.task.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
