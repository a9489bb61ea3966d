"""explain: which parts of held-out prompts move the tuned model, and how faithful that is.

Artifacts: `explanations`, each row with its words, units, scores and areas, and the view over many
rows; `attention`, a folder with a page for each row, where the job asks for it; `explanation`, the
same in means and without a word of any row, which is published. The words stay in the workspace,
beside the rows themselves.

Facts: the content of `explanation`. A row that cannot be explained is left out and counted.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final, cast

import numpy as np
import torch

from tunesmith_api.finetunejob.explain import Explain, Surrogate
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, local_path
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.bootstrap import FEW_ROWS
from tunesmith_trainer.evaluate.suites import HELD_OUT
from tunesmith_trainer.explain.explained_model import ExplainedModel, UnexplainableError
from tunesmith_trainer.explain.explained_row import ROLLOUT, ExplainedRow, explain_row
from tunesmith_trainer.explain.game import Game, UndefinedValueError
from tunesmith_trainer.explain.global_view import GlobalView
from tunesmith_trainer.explain.heat_map import attention_page
from tunesmith_trainer.explain.surrogate import (
    HeldOutRows,
    decisions,
    surrogates,
    without_words,
)
from tunesmith_trainer.models import load_tokenizer, load_tuned
from tunesmith_trainer.versions import library_versions

_LIBRARIES: Final = ("torch", "transformers", "captum", "scikit-learn")
_ATTENTION: Final = "attention"


@dataclass(slots=True)
class _Findings:
    """What was found so far; `skipped` counts rows by why they are left out."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    view: GlobalView = field(default_factory=GlobalView)
    skipped: Counter[str] = field(default_factory=Counter)
    surrogate: dict[str, Any] | None = None


def explain(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Explain the rows that the job asks for.

    Raises:
        VerdictError: not one row could be explained.
    """
    settings = cast("Explain", request.spec.evaluation.explain)
    prepared, losses = load_rows_of_stage(request), _losses(request)
    reporter.progress("loading the tuned model")
    model = ExplainedModel.of(
        load_tuned(request, dtype=torch.float32), load_tokenizer(prepared.model), settings
    )
    findings, output = _Findings(), Path(request.output)
    games = _Games(model, prepared.validation, prepared.records("validation"), findings)
    for done, number in enumerate(chosen := _chosen(losses, settings)):
        reporter.progress("explaining rows", step=done, total_steps=len(chosen))
        _explain_row(games, number, losses[number], settings=settings, output=output)
    _refuse_empty(findings)
    everywhere = _chosen(losses, settings, num_rows=settings.global_rows, choose="random")
    for done, number in enumerate(everywhere):
        reporter.progress("looking at all rows", step=done, total_steps=len(everywhere))
        games.play(number, lambda _, game: findings.view.add(game))
    if settings.surrogate is not None:
        held_out = HeldOutRows(
            games.records, games.rows, longest=request.spec.training.sequence_length
        )
        findings.surrogate = _surrogate(model, held_out, findings, settings.surrogate, reporter)
    return _outcome(findings, settings, output=output)


@dataclass(frozen=True, slots=True)
class _Games:
    """Plays rows, and counts those that cannot be played."""

    model: ExplainedModel
    rows: TokenRows
    records: Sequence[RowRecord]
    findings: _Findings

    def play(self, number: int, play: Any) -> None:
        """Call `play(kind, game)`, unless the row is left out."""
        ids, trained = self.rows.row(number)
        try:
            play(*self.model.game_of_row(self.records[number], ids.tolist(), trained.tolist()))
        except (UnexplainableError, UndefinedValueError) as error:
            self.findings.skipped[str(error)] += 1


def _surrogate(
    model: ExplainedModel,
    held_out: HeldOutRows,
    findings: _Findings,
    settings: Surrogate,
    reporter: Reporter,
) -> dict[str, Any]:
    """Simpler models of all that the model decides, judged by the view over all rows."""

    def say(done: int, total: int) -> None:
        reporter.progress("asking for decisions", step=done, total_steps=total)

    number = len(held_out.records)
    drawn = np.random.default_rng(model.settings.seed).permutation(number)[: settings.rows]
    chosen = sorted(int(row) for row in drawn)
    decided = decisions(model.model, model.tokenizer, held_out, chosen=chosen, on_batch=say)
    effects = findings.view.effects()
    return surrogates(decided, held_out.records, settings=settings, effects=effects)


def _explain_row(
    games: _Games, number: int, loss: float, *, settings: Explain, output: Path
) -> None:
    def play(kind: str, game: Game) -> None:
        row = explain_row(game, kind=kind, settings=settings)
        source = games.records[number].source
        told = {"row": number + 1, "source": source, "loss": loss, **row.as_json()}
        games.findings.rows.append(told)
        if row.attention is not None:
            _write_attention(row, number, settings=settings, folder=output / _ATTENTION)

    games.play(number, play)


def _write_attention(row: ExplainedRow, number: int, *, settings: Explain, folder: Path) -> None:
    maps = row.attention
    if maps is None:
        return
    if not settings.show_text:
        # Places instead of words.
        maps = maps.without_words()
    folder.mkdir(parents=True, exist_ok=True)
    page = attention_page(f"Attention of held-out row {number + 1}", maps)
    write_atomically(folder / f"row-{number + 1}.html", page)


def _losses(request: StageRequest) -> list[float]:
    """Of each held-out row, nats per target token, as `evaluate` has scored it."""
    path = local_path(request.inputs[EVALUATE.name].artifact("rowScores"))
    (scored,) = [
        record
        for record in json.loads(path.read_text(encoding="utf-8"))
        if (record["suite"], record["metric"]) == (HELD_OUT, "loss")
    ]
    pairs = zip(scored["tuned"], scored["weights"], strict=True)
    return [loss / max(weight, 1.0) for loss, weight in pairs]


def _chosen(
    losses: Sequence[float],
    settings: Explain,
    *,
    num_rows: int | None = None,
    choose: str | None = None,
) -> list[int]:
    """Numbers of rows, the worst first, or drawn by the seed."""
    wanted = settings.rows if num_rows is None else num_rows
    if (choose or settings.choose) == "failures":
        return sorted(range(len(losses)), key=lambda number: -losses[number])[:wanted]
    drawn = np.random.default_rng(settings.seed).permutation(len(losses))[:wanted]
    return sorted(int(number) for number in drawn)


def _refuse_empty(findings: _Findings) -> None:
    if findings.rows:
        return
    why = "; ".join(f"{count} × {reason}" for reason, count in findings.skipped.items())
    raise VerdictError(
        Reason.LOSS_DIVERGED,
        f"evaluation.explain: no row could be explained: {why}. Leave explain out, or choose other "
        "rows with evaluation.explain.choose",
    )


def _outcome(findings: _Findings, settings: Explain, *, output: Path) -> StageOutcome:
    view, rows = findings.view, findings.rows
    summary: dict[str, Any] = {
        "rows": len(rows),
        "skipped": dict(findings.skipped),
        "units": dict(Counter(row["unitKind"] for row in rows)),
        "passes": sum(row["passes"] for row in rows),
        "methods": _by_method(rows),
        "global": {"rows": view.num_rows, "places": view.places()},
        "showText": settings.show_text,
    }
    if findings.surrogate is not None:
        summary["surrogate"] = without_words(findings.surrogate)
    explanations = {
        "rows": rows,
        "surrogate": findings.surrogate,
        "global": {**summary["global"], "words": view.words()},
    }
    documents = {"explanations": explanations, "explanation": summary}
    artifacts = []
    for name, content in documents.items():
        path = output / f"{name}.json"
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_atomically(path, text)
        artifacts.append(artifact_of(name, path))
    if (output / _ATTENTION).is_dir():
        artifacts.append(artifact_of(_ATTENTION, output / _ATTENTION))
    return StageOutcome(
        message=_message(summary),
        artifacts=artifacts,
        facts=summary,
        versions=library_versions(*_LIBRARIES),
        warnings=_warnings(findings),
    )


def _by_method(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over rows; attention's rollout is judged beside the methods."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for told in row["methods"]:
            found.setdefault(told["method"], []).append(told)
        if "attention" in row:
            found.setdefault(ROLLOUT, []).append(row["attention"])
    return [
        {
            "method": method,
            "rows": len(told),
            "estimators": sorted({one["estimator"] for one in told if "estimator" in one}),
            **{
                f"{kind}{part}": fmean(one[kind][name] for one in told)
                for kind in ("deletion", "insertion")
                for part, name in (("Area", "value"), ("Random", "random"), ("Beats", "beats"))
            },
            "stability": _mean(one.get("stability") for one in told),
        }
        for method, told in found.items()
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _message(summary: Mapping[str, Any]) -> str:
    best = max(summary["methods"], key=lambda told: told["deletionArea"])
    return (
        f"{summary['rows']} rows explained; deletion by {best['method']} loses "
        f"{best['deletionArea']:.3f} nats per token, a random order {best['deletionRandom']:.3f}"
    )


def _warnings(findings: _Findings) -> list[str]:
    left_out = [
        f"{count} row(s) could not be explained: {why}." for why, count in findings.skipped.items()
    ]
    unfaithful = [
        f"{told['method']} is no better than a random order of the units: do not rely on it."
        for told in _by_method(findings.rows)
        if told["deletionArea"] <= told["deletionRandom"]
    ]
    unlike = findings.surrogate.get("models", []) if findings.surrogate else []
    unfaithful += [
        f"The surrogate {told['model']} foretells the model no better than a constant does: do not "
        "read its words."
        for told in unlike
        if told["interval"][0] <= told["constant"]
    ]
    if findings.surrogate and (reason := findings.surrogate.get("reason")):
        unfaithful.append(f"No surrogate was fitted: {reason}.")
    few = findings.view.num_rows
    wide = [f"The view over all rows is of {few} rows: with fewer than {FEW_ROWS} it says little."]
    return [*left_out, *unfaithful, *(wide if 0 < few < FEW_ROWS else [])]
