"""`tunesmith data`: what cleaning would remove or change, before anything is trained."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_cli.errors import EXIT_DONE, CommandError
from tunesmith_cli.formats import counted
from tunesmith_cli.inputs import find_job, open_manifest
from tunesmith_cli.report.job_data import read_job_data
from tunesmith_cli.terminal.style import plain, table
from tunesmith_engine.local.cleaning_preview import CleaningPreview, preview_cleaning
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.digests import local_path

_SHOWN_ROWS: Final = 3
_LONGEST_TEXT: Final = 300
# `kept` is what a policy of `warn` does; here nothing was done yet.
_ACTIONS: Final = {"removed": "goes", "repaired": "mended", "masked": "masked", "kept": "stays"}


def run(options: argparse.Namespace) -> int:
    """Look at the data that the argument names, and print what is found."""
    preview = look_at(
        options.data,
        home=HomeFolder(options.home),
        environments=Environments.discover(),
        num_texts=_SHOWN_ROWS if options.show else 0,
    )
    as_json = options.output == "json"
    print(json.dumps(preview_as_json(preview), indent=1) if as_json else preview_as_text(preview))
    return EXIT_DONE


def look_at(
    named: str, *, home: HomeFolder, environments: Environments, num_texts: int
) -> CleaningPreview:
    """What cleaning would do to the rows of a manifest or a file, or has done to those of a job.

    Raises:
        CommandError: there is no such file and no such job, or the manifest breaks a rule.
        SourceError: the data breaks a rule, or cannot be fetched.
    """
    path = Path(named)
    if named != "-" and not path.exists():
        return _of_job(named, home=home, num_texts=num_texts)
    dataset, base = _dataset_of(path)
    return preview_cleaning(
        dataset, base=base, home=home, environments=environments, num_texts=num_texts
    )


def _dataset_of(path: Path) -> tuple[Dataset, Path]:
    """The data set of a manifest; a file of data is one with every default."""
    if str(path) == "-" or _is_manifest(path):
        manifest = open_manifest(path)
        return manifest.job.spec.dataset, manifest.base
    uri = f"file://{path.name.replace('%', '%25')}"
    return Dataset(train=DataSource(uri=uri)), path.resolve().parent


def _is_manifest(path: Path) -> bool:
    # Data may be YAML as well; a manifest says what it is.
    if path.suffix not in {".yaml", ".yml"}:
        return False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.startswith(("apiVersion:", "kind:")) for line in lines)


def _of_job(name: str, *, home: HomeFolder, num_texts: int) -> CleaningPreview:
    """What was found when the job prepared its data."""
    stored = find_job(name, root=home.root)
    job = read_job_data(stored.folder, stored.status)
    result = job.results.get(PREPARE.name)
    if result is None or result.outcome != "Succeeded" or not isinstance(job.card, dict):
        raise CommandError(
            f"job '{name}' has prepared no data yet; give its manifest in place of its name"
        )
    if num_texts:
        raise CommandError(
            f"--show: given with the job '{name}', which keeps no text of rows that are gone; give "
            "its manifest in place of its name"
        )
    path = local_path(result.artifact("audit"))
    rows: Any = job.card["rows"]
    return CleaningPreview(
        read={"all": rows["read"]},
        left={"all": rows["kept"]},
        findings=[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()],
        format=str(job.card["format"]),
    )


def preview_as_json(preview: CleaningPreview) -> dict[str, JsonValue]:
    """The one object that `data --output json` prints."""
    told: dict[str, JsonValue] = {
        "format": preview.format,
        "read": dict(preview.read),
        "left": dict(preview.left),
        "rules": [
            {"rule": rule, "action": action, "count": len(found), "rows": [dict(f) for f in found]}
            for (rule, action), found in _by_rule(preview).items()
        ],
    }
    if preview.not_judged:
        told["notJudged"] = list(preview.not_judged)
    return told | ({"texts": dict(preview.texts)} if preview.texts else {})


def preview_as_text(preview: CleaningPreview) -> str:
    """How many rows stay, a line for each rule, and the rows that were asked for."""
    read, left = sum(preview.read.values()), sum(preview.left.values())
    head = f"{counted(read, 'row')} of {preview.format}; {left:,} would be left{_unsaid(preview)}"
    rules = _by_rule(preview)
    if not rules:
        return f"{head}; no rule of dataset.cleaning has found anything"
    lines = [
        (rule, _ACTIONS[action], f"{len(found):,}", _rows(found))
        for (rule, action), found in rules.items()
    ]
    shown = [_shown(rule, found, preview.texts) for (rule, _), found in rules.items()]
    return "\n\n".join(
        (head, table([("rule", "row", "rows", "where"), *lines]), *(shown if preview.texts else ()))
    )


def _unsaid(preview: CleaningPreview) -> str:
    if not preview.not_judged:
        return ""
    return (
        f", before {', '.join(preview.not_judged)}: that takes the base model; run the manifest "
        "with --until prepare, then give the job's name here"
    )


def _by_rule(preview: CleaningPreview) -> Mapping[tuple[str, str], list[Mapping[str, Any]]]:
    rules: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for finding in preview.findings:
        rules.setdefault((finding["rule"], finding["action"]), []).append(finding)
    return rules


def _rows(found: Sequence[Mapping[str, Any]]) -> str:
    shown = [
        f"{finding['row']} = {finding['of']}" if "of" in finding else str(finding["row"])
        for finding in found[:_SHOWN_ROWS]
    ]
    return plain(", ".join(shown)) + (", …" if len(found) > len(shown) else "")


def _shown(rule: str, found: Sequence[Mapping[str, Any]], texts: Mapping[str, str]) -> str:
    return "\n".join([f"{rule}:", *(f"  {line}" for line in _text_lines(found, texts))])


def _text_lines(found: Sequence[Mapping[str, Any]], texts: Mapping[str, str]) -> Iterator[str]:
    for finding in found[:_SHOWN_ROWS]:
        for row in (str(finding["row"]), str(finding.get("of"))):
            if row in texts:
                text = plain(texts[row])
                cut = "…" if len(text) > _LONGEST_TEXT else ""
                yield f"{plain(row)}  {text[:_LONGEST_TEXT]}{cut}"
