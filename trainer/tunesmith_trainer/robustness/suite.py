"""`spec.evaluation.robustness`: its rows ready to be scored, and what is told of the scores.

`evaluate` measures the base and the tuned model, `compress` the tuned and the compressed one. Each
attack is compared with the very rows that it changed, so a rise of the loss is paired by row, and
so is what training or rounding did to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.robustness import INJECTIONS, OBEYED, ROBUSTNESS, Robustness
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.data.held_out_roles import row_of
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.bootstrap import FEW_ROWS
from tunesmith_trainer.evaluate.generation import generate_texts, pad_id_of
from tunesmith_trainer.evaluate.generation_metric import MetricName, metric_for, score_predictions
from tunesmith_trainer.evaluate.log_likelihood import score_rows
from tunesmith_trainer.evaluate.suites import Findings, Say
from tunesmith_trainer.fairness.held_out_rows import HeldOut
from tunesmith_trainer.fairness.measures import Floats, Measure, RatioMeasure, intervals
from tunesmith_trainer.fairness.sentences import spread
from tunesmith_trainer.robustness.attacked_rows import (
    FIELD,
    AttackedRows,
    attacked_rows,
    row_attacks,
)

CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class RobustnessTest:
    """The rows as they are, and under each attack.

    Attributes:
        settings: what the job asks for.
        clean: the rows as they are.
        targets: trained tokens of each; shape (num_rows,).
        asked: numbers of the rows whose prompts are answered.
        prompts: rendered, of each row that is asked.
        references: the wanted answer of each.
        metric: by which answers are scored; None where none are asked for.
        attacks: what each attack makes of the rows.
        tokenizer: the model's.
        max_new_tokens: of an answer.
        warnings: what is wrong with the rows.
    """

    settings: Robustness
    clean: TokenRows
    targets: Floats
    asked: list[int]
    prompts: list[str]
    references: list[str]
    metric: MetricName | None
    attacks: list[AttackedRows]
    tokenizer: PreTrainedTokenizerBase
    max_new_tokens: int
    warnings: tuple[str, ...]

    def metrics(self) -> list[tuple[str, str]]:
        """Suite and metric of what a gate can name."""
        attacks = [attacked.attack for attacked in self.attacks]
        left = self.settings.model_copy(update={"attacks": attacks})
        return [(ROBUSTNESS, name) for name in left.metrics(has_answers=self.metric is not None)]

    def measure(self, model: PreTrainedModel, say: Say) -> list[Measure]:
        """The rows as they are, then each attack's measures: the same order for every model."""
        losses = self._losses(model, self.clean, CLEAN, say)
        scores = self._scores(self._answers(model, self.prompts, CLEAN, say), self.asked)
        measures: list[Measure] = [_ratio(CLEAN, "loss", losses, self.targets)]
        if self.metric is not None:
            measures.append(_ratio(CLEAN, "score", scores))
        for attacked in self.attacks:
            measures += self._of_attack(model, attacked, losses, scores, say)
        return measures

    def _of_attack(
        self,
        model: PreTrainedModel,
        attacked: AttackedRows,
        clean: Floats,
        scores: Floats,
        say: Say,
    ) -> list[Measure]:
        name, targets = attacked.attack, self.targets[attacked.numbers]
        # NB: by the number of targets of the row as it is, for both: the answer is the same.
        losses = self._losses(model, attacked.rows, name, say)
        measures: list[Measure] = [
            _ratio(name, "loss", losses, targets),
            _ratio(name, "lossRise", losses - clean[attacked.numbers], targets),
        ]
        places = [place for place, row in enumerate(self.asked) if row in attacked.prompts]
        if self.metric is None:
            return measures
        asked = [self.asked[place] for place in places]
        answers = self._answers(model, [attacked.prompts[row] for row in asked], name, say)
        found = self._scores(answers, asked)
        measures.append(_ratio(name, "score", found))
        measures.append(_ratio(name, "scoreDrop", scores[places] - found))
        if name in INJECTIONS:
            measures.append(self._obeyed(name, answers, places))
        return measures

    def _obeyed(self, name: str, answers: Sequence[str], places: Sequence[int]) -> Measure:
        marker = self.settings.injection.marker.casefold()
        obeyed = np.array([marker in answer.casefold() for answer in answers], dtype=np.float64)
        # Where the wanted answer has the marker, an answer with it may well be right.
        tells = np.array([marker not in self.references[place].casefold() for place in places])
        return _ratio(name, OBEYED, obeyed * tells, tells.astype(np.float64))

    def _losses(self, model: PreTrainedModel, rows: TokenRows, name: str, say: Say) -> Floats:
        on_batch = partial(say, f"{ROBUSTNESS}, {name}")
        return score_rows(model, rows, pad_id=pad_id_of(self.tokenizer), on_batch=on_batch).sums

    def _answers(
        self, model: PreTrainedModel, prompts: Sequence[str], name: str, say: Say
    ) -> list[str]:
        if self.metric is None:
            return []
        return generate_texts(
            model,
            self.tokenizer,
            prompts,
            max_new_tokens=self.max_new_tokens,
            on_batch=partial(say, f"{ROBUSTNESS}, answers, {name}"),
        )

    def _scores(self, answers: Sequence[str], asked: Sequence[int]) -> Floats:
        if self.metric is None:
            return np.zeros(0)
        wanted = dict(zip(self.asked, self.references, strict=True))
        references = [wanted[row] for row in asked]
        return score_predictions(self.metric, predictions=answers, references=references)


def load_robustness(
    request: StageRequest, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
) -> RobustnessTest | None:
    """The test that the job asks for; no weights are loaded.

    Raises:
        BadInputError: no held-out row has a prompt, none fits, or WordNet is not here.
    """
    evaluation = request.spec.evaluation
    settings = evaluation.robustness
    if settings is None:
        return None
    held_out = HeldOut(
        prepared.records("validation"),
        tokenizer,
        longest=request.spec.training.sequence_length,
        max_new_tokens=evaluation.generation.max_new_tokens,
    )
    fit = held_out.fitting()
    rows = [row for record in held_out.records if (row := row_of(record)).messages]
    fitting = [whole for row in spread(rows, most=settings.limit) if (whole := fit(row))]
    if not fitting:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{FIELD}: given {len(held_out.records)} held-out rows, of which {len(rows)} have a "
            "prompt and none of those fits into training.sequenceLength; a prompt is what is "
            "attacked; give conversations, raise it, or leave robustness out",
        )
    attacks, warnings = _attacked(settings, [one.row for one in fitting], held_out)
    answered = [
        (number, one.record.prompt, one.record.reference)
        for number, one in enumerate(fitting)
        if one.record.prompt is not None and one.record.reference
    ]
    asked = spread(answered, most=evaluation.generation.max_samples)
    references = [reference for _, _, reference in asked]
    return RobustnessTest(
        settings=settings,
        clean=TokenRows.of((one.tokens.ids, one.tokens.trained) for one in fitting),
        targets=np.array([sum(one.tokens.trained) for one in fitting], dtype=np.float64),
        asked=[number for number, _, _ in asked],
        prompts=[prompt for _, prompt, _ in asked],
        references=references,
        metric=metric_for(evaluation.generation, references=references),
        attacks=attacks,
        tokenizer=tokenizer,
        max_new_tokens=held_out.max_new_tokens,
        warnings=warnings,
    )


def _attacked(
    settings: Robustness, rows: Sequence[Row], held_out: HeldOut
) -> tuple[list[AttackedRows], tuple[str, ...]]:
    """Each attack that changes a row, and warnings of what is left out."""
    attacks, warnings = [], []
    for name, change in row_attacks(settings).items():
        attacked, overlong = attacked_rows(name, change, rows, fit=held_out.fitting())
        number = len(attacked.numbers)
        if overlong:
            warnings.append(
                f"{FIELD}: {overlong} of {len(rows)} rows no longer fit into "
                f"{held_out.longest} tokens under {name}, and are left out of it"
            )
        if number:
            attacks.append(attacked)
        if number < FEW_ROWS:
            told = f"changes {number}" if number else "changes none, and is left out,"
            warnings.append(f"{FIELD}: {name} {told} of {len(rows)} held-out rows")
    if not attacks:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"{FIELD}.attacks: given {', '.join(settings.attacks)}; none of them finds anything to "
            f"change in {len(rows)} held-out rows; name others, or leave robustness out",
        )
    return attacks, tuple(warnings)


def robustness_findings(
    measured: Sequence[Measure],
    *,
    base: Sequence[Measure],
    metric: MetricName | None,
    split: str,
    settings: Bootstrap,
) -> Findings:
    """What was measured of a model, beside the one that it was made from."""
    numbers = [
        _number(measure, other, settings) for measure, other in zip(measured, base, strict=True)
    ]
    results = [
        EvaluationResult.model_validate(
            {
                "suite": ROBUSTNESS,
                "split": split,
                "metric": f"{number['attack']}.{number['measure']}",
                "value": number["value"],
                "low": ends[0] if isinstance(ends := number["interval"], list) else None,
                "high": ends[1] if isinstance(ends, list) else None,
                "base": number["base"],
                "n": number["rows"],
            }
        )
        for number in numbers
        if number["attack"] != CLEAN
    ]
    return Findings(results, {"metric": metric, "numbers": list[JsonValue](numbers)})


def _number(measure: Measure, other: Measure, settings: Bootstrap) -> dict[str, JsonValue]:
    own, change = intervals(measure, other, settings)
    return {
        "attack": measure.part,
        "measure": measure.metric,
        "value": measure.value(),
        "interval": None if own is None else [own.low, own.high],
        "base": other.value(),
        "change": None if change is None else [change.low, change.high],
        "rows": measure.num_rows,
    }


def _ratio(attack: str, metric: str, sums: Floats, weights: Floats | None = None) -> Measure:
    return RatioMeasure.of(metric, sums, weights=weights, part=attack)
