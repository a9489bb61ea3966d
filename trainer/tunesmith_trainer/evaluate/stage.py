"""evaluate: base against tuned on held-out rows, general text and tasks, then the gates.

Of preferences the held-out rows are the chosen answers, and both sides make one more suite.

Reads the held-out rows of `prepare` and the weights of `train`; writes `evaluation.json`, and what
each row was scored into `row-scores.json`. Gates that could never be judged are refused before a
weight is loaded. A model that breaks a gate ends the job with `EvaluationGateFailed`, its numbers
attached.

Facts: `{"dtype", "metric", "resolved"}`; `metric` is that of the answers, or null. `judge` and
`reference` are the records of `other_models.py`, `fairness` that of `fairness/suites.py` and
`robustness` that of `robustness/suite.py`, where the job asks for them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.evaluation import LOSS_METRICS, WIN_RATE, Evaluation
from tunesmith_api.finetunejob.preference import PREFERENCE_METRICS
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, local_path
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.forgetting import forgetting_warnings
from tunesmith_trainer.evaluate.gates import GateVerdict, judge, refuse_unmeasured
from tunesmith_trainer.evaluate.generation import generate_texts, pad_id_of
from tunesmith_trainer.evaluate.generation_metric import (
    GenerationSuite,
    choose_generation_suite,
    generation_result,
    mean_score,
)
from tunesmith_trainer.evaluate.harness import (
    Scores,
    Task,
    load_tasks,
    metrics_of,
    score_tasks,
    suite_results,
)
from tunesmith_trainer.evaluate.interpolation import Sweep, SweptPoint, sweep
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, load_for_scoring
from tunesmith_trainer.evaluate.managed_model import REFERENCE
from tunesmith_trainer.evaluate.other_models import OtherModels, Told
from tunesmith_trainer.evaluate.pairwise_judge import JUDGE
from tunesmith_trainer.evaluate.preference import (
    PREFERENCE,
    REJECTED,
    PairLosses,
    preference_results,
)
from tunesmith_trainer.evaluate.row_scores import answer_scores, loss_scores
from tunesmith_trainer.evaluate.scored_rows import ScoredRows
from tunesmith_trainer.evaluate.suites import (
    GENERAL,
    HELD_OUT,
    Findings,
    Say,
    few_rows_warnings,
    loss_results,
    mean_loss,
    score_suites,
)
from tunesmith_trainer.evaluate.trust import TrustMeasures, TrustTests
from tunesmith_trainer.models import ADAPTER_SETTINGS, TUNED, load_tokenizer
from tunesmith_trainer.prepare.preflight import refuse_undoable
from tunesmith_trainer.versions import library_versions

LIBRARIES = ("torch", "transformers", "peft", "lm-eval")

Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of one model: losses by suite, its answers, and scores of tasks."""

    losses: dict[str, RowLosses]
    answers: list[str]
    tasks: Scores
    trust: TrustMeasures


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is measured of either model."""

    settings: Evaluation
    base: Path
    tokenizer: PreTrainedTokenizerBase
    suites: dict[str, TokenRows]
    generation: GenerationSuite
    tasks: list[Task]
    trust: TrustTests
    sequence_length: int
    warnings: list[str]
    # Of preferences: the rejected answers of the held-out rows, and how margins are scaled.
    rejected: TokenRows | None
    beta: float

    @classmethod
    def of(cls, request: StageRequest) -> "EvaluationPlan":
        """Read the rows and tokenize the general text; no weights are loaded.

        Raises:
            StageError: the general text or a task is unusable, or what follows cannot be done.
        """
        settings, scored = request.spec.evaluation, ScoredRows.load(request)
        prepared, tokenizer = scored.prepared, scored.tokenizer
        refuse_undoable(request, model=prepared.model)
        return cls(
            settings=settings,
            base=prepared.model,
            tokenizer=tokenizer,
            suites=scored.suites,
            generation=choose_generation_suite(
                prepared.records("validation"), settings=settings.generation
            ),
            tasks=load_tasks(request),
            trust=TrustTests.load(request, prepared, tokenizer),
            sequence_length=request.spec.training.sequence_length,
            warnings=scored.warnings,
            rejected=prepared.rejected.get("validation"),
            beta=request.spec.training.dpo.beta,
        )

    def metrics(self) -> list[tuple[str, str]]:
        """Suite and metric of every number that will be measured."""
        measured = [(suite, metric) for suite in self.suites for metric in LOSS_METRICS]
        if self.rejected is not None:
            measured += [(PREFERENCE, metric) for metric in PREFERENCE_METRICS]
        measured += [named for task in self.tasks for named in metrics_of(task)]
        measured += self.trust.metrics()
        if self.generation.metric:
            measured.append((HELD_OUT, self.generation.metric))
            measured += [(JUDGE, WIN_RATE)] if self.settings.judge else []
        return measured

    def measure(self, model: PreTrainedModel, *, say: Say) -> Measurement:
        """Score the suites, then answer the prompts."""
        suites = self.suites | ({} if self.rejected is None else {REJECTED: self.rejected})
        return Measurement(
            losses=score_suites(model, suites, pad_id=pad_id_of(self.tokenizer), say=say),
            answers=generate_texts(
                model,
                self.tokenizer,
                self.generation.prompts,
                max_new_tokens=self.settings.generation.max_new_tokens,
                on_batch=lambda done, total: say("answers", done, total),
            ),
            tasks=score_tasks(
                model,
                load_tokenizer(self.base),
                self.tasks,
                sequence_length=self.sequence_length,
                say=say,
            ),
            trust=self.trust.measure(model, say=say),
        )

    def sweep(
        self, tuned_folder: Path, *, base: Measurement, tuned: Measurement, reporter: Reporter
    ) -> Sweep | None:
        """The losses between both models' weights, where the job asks for them."""
        wanted = self.settings.interpolation
        if wanted is None:
            return None

        def measure(alpha: float, model: PreTrainedModel) -> SweptPoint:
            def say(what: str, done: int, total: int) -> None:
                reporter.progress(f"weights at {alpha:.2f}: {what}", step=done, total_steps=total)

            pad_id = pad_id_of(self.tokenizer)
            return swept_point(alpha, score_suites(model, self.suites, pad_id=pad_id, say=say))

        ends = (swept_point(0.0, base.losses), swept_point(1.0, tuned.losses))
        return sweep(self.base, tuned_folder, num_points=wanted.points, ends=ends, measure=measure)

    def trust_findings(self, base: Measurement, tuned: Measurement) -> Findings:
        """What was measured of bias and of attacked prompts, the general loss beside it."""
        return self.trust.findings(
            tuned.trust,
            base=base.trust,
            split="tuned",
            settings=self.settings.bootstrap,
            general_loss=(mean_loss(base.losses[GENERAL]), mean_loss(tuned.losses[GENERAL])),
        )

    def row_scores(self, base: Measurement, tuned: Measurement) -> list[JsonValue]:
        """The content of `row-scores.json`."""
        losses = loss_scores(self.suites, base=base.losses, tuned=tuned.losses)
        return [*losses, *answer_scores(self.generation, base=base.answers, tuned=tuned.answers)]

    def results(self, base: Measurement, tuned: Measurement) -> list[EvaluationResult]:
        """Every number of the tuned model beside the base's, the held-out loss first."""
        bootstrap = self.settings.bootstrap
        losses = [
            result
            for suite in self.suites
            for result in loss_results(
                suite,
                tuned.losses[suite],
                base=base.losses[suite],
                split="tuned",
                settings=bootstrap,
            )
        ]
        if self.rejected is not None:
            losses += preference_results(
                _pair_losses(tuned),
                base=_pair_losses(base),
                beta=self.beta,
                settings=bootstrap,
            )
        score = generation_result(
            self.generation,
            tuned.answers,
            split="tuned",
            base=mean_score(self.generation, base.answers),
            settings=bootstrap,
        )
        of_tasks = suite_results(tuned.tasks, base=base.tasks, settings=bootstrap)
        return [*losses, *([score] if score else []), *of_tasks]


def evaluate(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Measure both models, write `evaluation.json`, and judge the gates.

    Raises:
        BadInputError: a gate names a number that is not measured, or the general text is unusable.
        VerdictError: a gate does not hold, or a loss is undefined.
    """
    # The planner has filled them in.
    plan, gates = EvaluationPlan.of(request), request.spec.evaluation.gates or []
    refuse_unmeasured(gates, measured=plan.metrics())
    others = OtherModels(request, plan.generation, reporter=reporter)

    def measure(name: str, model: PreTrainedModel) -> Measurement:
        def say(what: str, done: int, total: int) -> None:
            reporter.progress(f"{name} model: {what}", step=done, total_steps=total)

        return plan.measure(model, say=say)

    folder = local_path(request.inputs[TRAIN.name].artifact(TUNED))
    base, tuned = measure_both(plan.base, folder, measure=measure)
    told = others.ask(plan.tokenizer, base=base.answers, tuned=tuned.answers)
    trust = plan.trust_findings(base, tuned)
    results = [*plan.results(base, tuned), *told.results, *trust.results]
    # A managed model is measured under a split of its own, and no gate is about it.
    judged = [result for result in results if result.split != REFERENCE]
    # A metric of a task may be undefined for these rows, which only measuring tells.
    refuse_unmeasured(gates, measured=[(result.suite, result.metric) for result in judged])
    verdicts = judge(gates, judged)
    swept = plan.sweep(folder, base=base, tuned=tuned, reporter=reporter)
    document = evaluation_document(
        plan, results, verdicts=verdicts, base=base, tuned=tuned, told=told
    )
    if swept:
        document["interpolation"] = swept.as_json()
    document |= trust.record
    # Written before the gates decide: the report of a refused job shows it, too.
    path = Path(request.output) / "evaluation.json"
    write_atomically(path, json.dumps(document, indent=1, ensure_ascii=False))
    scores_path = Path(request.output) / "row-scores.json"
    write_atomically(scores_path, json.dumps(plan.row_scores(base, tuned)))
    metric = plan.generation.metric
    outcome = StageOutcome(
        message=_message(results),
        artifacts=[artifact_of("evaluation", path), artifact_of("rowScores", scores_path)],
        evaluation=results,
        facts={
            "dtype": "float32",
            "metric": metric,
            **({"interpolation": swept.as_json()} if swept else {}),
            **trust.record,
            **told.records,
            "resolved": {"evaluation.generation.metric": metric or "none"},
        },
        versions=library_versions(*LIBRARIES),
        # The general suite is the same text for every job, and its size the manifest's own affair.
        warnings=[
            *plan.warnings,
            *told.warnings,
            *plan.trust.warnings(tuned.trust, trust),
            *few_rows_warnings({HELD_OUT: tuned.losses[HELD_OUT]}),
            *forgetting_warnings(
                tuned.losses[GENERAL],
                base=base.losses[GENERAL],
                gates=gates,
                settings=plan.settings.bootstrap,
            ),
        ],
    )
    broken = [verdict.statement for verdict in verdicts if not verdict.holds]
    if broken:
        raise VerdictError(Reason.EVALUATION_GATE_FAILED, "; ".join(broken) + ".", findings=outcome)
    return outcome


def _pair_losses(measured: Measurement) -> PairLosses:
    return PairLosses(measured.losses[HELD_OUT], measured.losses[REJECTED])


def _message(results: Sequence[EvaluationResult]) -> str:
    held_out = results[0]
    losses = f"held-out loss {held_out.base:.4f} (base) to {held_out.value:.4f} (tuned)"
    pairs = {result.metric: result.value for result in results if result.suite == PREFERENCE}
    if not pairs:
        return losses
    return f"margin {pairs['margin']:.4f}, accuracy {pairs['accuracy']:.4f}; {losses}"


def measure_both(
    base: Path, tuned: Path, *, measure: Callable[[str, PreTrainedModel], Measured]
) -> tuple[Measured, Measured]:
    """What `measure(name, model)` returns for "base" and for "tuned", both in fp32.

    `tuned` is a folder of adapters or of a whole model. With adapters both are the same weights,
    with the adapters switched off and on; they are not merged here, so that `compress` proves its
    merging by arriving at the same loss.
    """
    if not (tuned / ADAPTER_SETTINGS).is_file():
        # NB: no name may hold the first model while the second is loaded, or both are in memory.
        return measure("base", load_for_scoring(base)), measure("tuned", load_for_scoring(tuned))
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_for_scoring(base), str(tuned)).eval()
    # NB: base first, and measured within the block: leaving it switches the adapters on again.
    with model.disable_adapter():
        before = measure("base", model)
    return before, measure("tuned", model)


def swept_point(alpha: float, losses: Mapping[str, RowLosses]) -> SweptPoint:
    """The losses of both suites at `alpha`."""
    return SweptPoint(
        alpha=alpha, held_out=mean_loss(losses[HELD_OUT]), general=mean_loss(losses[GENERAL])
    )


def evaluation_document(
    plan: EvaluationPlan,
    results: Sequence[EvaluationResult],
    *,
    verdicts: Sequence[GateVerdict],
    base: Measurement,
    tuned: Measurement,
    told: Told,
) -> dict[str, JsonValue]:
    """The content of `evaluation.json`: numbers, verdicts, and every answer before and after."""
    suite = plan.generation
    rows = zip(suite.prompts, suite.references, base.answers, tuned.answers, strict=True)
    samples: list[dict[str, JsonValue]] = [
        {"prompt": prompt, "reference": reference, "base": before, "tuned": after}
        for prompt, reference, before, after in rows
    ]
    for sample, answer in zip(samples, told.managed_answers, strict=False):
        sample["managed"] = answer
    return {
        "metric": suite.metric,
        "results": [result.model_dump(mode="json", by_alias=True) for result in results],
        "verdicts": [
            {"statement": verdict.statement, "holds": verdict.holds} for verdict in verdicts
        ],
        "samples": list[JsonValue](samples),
        **told.records,
    }
