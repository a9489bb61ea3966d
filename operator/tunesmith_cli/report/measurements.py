"""What was measured, as charts and tables: losses, gates, answers, compression, agreement.

The evaluation shows every number of every stage, known here or not; the other parts are made from
the facts and artifacts of the stage that they are about. The template asks for each by its name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from tunesmith_api.results import EvaluationResult
from tunesmith_cli.formats import counted, duration, number, percent, size
from tunesmith_cli.metrics import (
    base_of,
    change_of,
    direction_of,
    interval_of,
    is_against_tuned,
    is_exported,
    label_of,
    latest_in_order,
    split_label,
)
from tunesmith_cli.report.artifacts import (
    EvaluationFile,
    GateResult,
    GuessingFacts,
    ParityFile,
    RatesFacts,
    Sample,
    SpeedFacts,
)
from tunesmith_cli.report.charts import Interval, interval_chart, sweep_chart
from tunesmith_cli.report.components import Chart, Table, shown, table_of
from tunesmith_cli.report.conversation import Turn, question_of, turns_of
from tunesmith_cli.report.fairness import FairnessTables
from tunesmith_cli.report.highlights import HighlightsTable
from tunesmith_cli.report.job_data import JobData
from tunesmith_cli.report.other_models import OtherModels
from tunesmith_cli.report.pareto import Candidate, pareto_chart, undominated
from tunesmith_cli.report.robustness import RobustnessTables

# Of two models a table says enough.
_FEWEST_CANDIDATES = 3


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """A held-out prompt as a conversation, with what was wanted and what the models said."""

    turns: list[Turn]
    answers: Sample


@dataclass(frozen=True)
class Measurements:
    """The numbers of a job; each part is empty where the job has not come so far."""

    job: JobData

    @cached_property
    def results(self) -> list[EvaluationResult]:
        """Every result of every stage, by suite and metric."""
        # From the stages' own results: a model that a gate refused has numbers there, while the
        # status takes those of stages that succeeded.
        return latest_in_order(
            measured for result in self.job.results.values() for measured in result.evaluation
        )

    @cached_property
    def gates(self) -> list[GateResult]:
        """What the gates demanded, and whether it holds."""
        return self.job.evaluation.verdicts if self.job.evaluation else []

    @cached_property
    def intervals(self) -> list[Chart]:
        """A chart for each measure: the base model, and each split that was measured."""
        charts = []
        # Formats for devices were scored on fewer rows.
        drawn = [result for result in self.results if not is_exported(result)]
        for title, group in groupby(drawn, key=label_of):
            measured = list(group)
            direction = direction_of(measured[0])
            head = f"{title} ({direction})" if direction else title
            caption = f"{head}, {counted(measured[0].n, 'row')}"
            drawing = interval_chart(title, _interval_rows(measured))
            charts.append(Chart(drawing=drawing, caption=caption))
        return charts

    @cached_property
    def evaluation(self) -> Table | None:
        """Every measured value, in figures."""
        rows = [
            (
                label_of(result),
                split_label(result.split),
                number(result.value),
                interval_of(result),
                "tuned" if is_against_tuned(result) else "base",
                _optional(result.base),
                change_of(result),
                f"{result.n:,}",
            )
            for result in self.results
        ]
        head = ("measure", "model", "value", "interval", "against", "its value", "change", "rows")
        return table_of("Every measured value", head, rows, numeric=(2, 3, 5, 6, 7))

    @cached_property
    def others(self) -> OtherModels:
        """What models elsewhere said: a judge, and a managed model."""
        return OtherModels(self.job.evaluation or EvaluationFile(), self.results)

    @cached_property
    def fairness(self) -> FairnessTables:
        """What the suites of fairness said of each model."""
        evaluated = self.job.evaluation.fairness if self.job.evaluation else None
        return FairnessTables(evaluated, self.job.compress.fairness)

    @cached_property
    def robustness(self) -> RobustnessTables:
        """What attacked prompts did to each model."""
        evaluated = self.job.evaluation.robustness if self.job.evaluation else None
        return RobustnessTables(evaluated, self.job.compress.robustness)

    @cached_property
    def highlights(self) -> HighlightsTable:
        """How much of what moves each model's answers lies on highlights."""
        evaluated = self.job.evaluation.highlights if self.job.evaluation else None
        return HighlightsTable(evaluated, self.job.compress.highlights)

    @cached_property
    def sweep(self) -> Chart | None:
        """Losses of the weights between base and tuned model, where they were measured."""
        swept = self.job.evaluation.interpolation if self.job.evaluation else None
        if swept is None:
            return None
        caption = (
            "Nats per target token of weights between the base model, 0, and the tuned, 1: general "
            f"text to the right, held-out rows upwards. {swept.conclusion}"
        )
        return Chart(drawing=sweep_chart(swept), caption=caption)

    @cached_property
    def samples(self) -> list[AnsweredPrompt]:
        """Held-out prompts with the answers of both models."""
        markers = self.job.prepare.markers
        return [
            AnsweredPrompt(turns=turns_of(sample.prompt, markers), answers=sample)
            for sample in (self.job.evaluation.samples if self.job.evaluation else ())
        ]

    @cached_property
    def schemes(self) -> Table | None:
        """The compression schemes with what each kept of the model's quality."""
        rows = [
            (
                f"{scheme.scheme}, {len(scheme.kept_layers)} layers in bf16"
                if scheme.kept_layers
                else scheme.scheme,
                _optional_percent(scheme.recovery.get("heldOut")),
                _optional_percent(scheme.recovery.get("general")),
                _optional_percent(scheme.min_recovery),
                _optional(scheme.kl),
                "accepted" if scheme.accepted else "too much lost",
                size(scheme.bytes) if scheme.bytes else "",
                duration(scheme.seconds) if scheme.seconds else "",
            )
            for scheme in self.job.compress.tries
        ]
        head = (
            "scheme", "held-out recovery", "general recovery", "needed", "nats a token off",
            "verdict", "size", "time",
        )  # fmt: skip
        caption = "Schemes in the order they were tried"
        return table_of(caption, head, rows, numeric=(1, 2, 3, 4, 6, 7))

    @cached_property
    def sizes(self) -> Chart | None:
        """Size against loss, where a ladder had more than one model to choose from."""
        found = list(_candidates(self.job))
        if len(found) < _FEWEST_CANDIDATES:
            return None
        beaten = [each for each in found if each not in undominated(found)]
        caption = (
            "Size in MiB to the right, held-out nats per target token upwards; the large dot "
            "ships, and the line joins those that are neither larger nor worse than another."
        )
        if beaten:
            caption += f" Beaten: {', '.join(each.label for each in beaten)}."
        return Chart(drawing=pareto_chart(found), caption=caption)

    @cached_property
    def agreement(self) -> Table | None:
        """How well the served model agreed with the trainer's own answers."""
        facts, bounds = self.job.verify, self.job.parity or ParityFile()
        if facts.agreement is None:
            return None
        agreed, apart = percent(facts.agreement), _optional(facts.mean_logprob_difference)
        at_least = _optional_percent(bounds.min_agreement)
        at_most = _optional(bounds.max_logprob_difference)
        # Exact (Clopper-Pearson) bounds: a share of few tokens says little, and alone hides it.
        low, high = facts.agreement_interval or (None, None)
        credible = f"{_optional_percent(low)} to {_optional_percent(high)}, each end at 95 %"
        rows = [
            ("tokens that agree", f"{agreed} (at least {at_least})" if at_least else agreed),
            (
                "log-probabilities apart",
                f"{apart} nats (at most {at_most})" if at_most else f"{apart} nats",
            ),
            ("prompts", _optional(facts.num_prompts)),
            ("tokens", _optional(facts.num_tokens)),
            ("of them equal", _optional(facts.num_agreed)),
            ("agreement that is credible", credible if facts.agreement_interval else ""),
            ("attention kernel", facts.kernel or ""),
            ("eager", "" if facts.enforce_eager is None else shown(facts.enforce_eager)),
            ("vLLM", facts.vllm_version or ""),
            ("time to load", "" if facts.load_seconds is None else duration(facts.load_seconds)),
            *(_speed_rows(facts.speed) if facts.speed else ()),
            *(_guessing_rows(facts.guessing) if facts.guessing else ()),
        ]
        told = [row for row in rows if row[1]]
        return table_of("vLLM against transformers", ("", ""), told, numeric=())

    @cached_property
    def prompts(self) -> Table | None:
        """One row for each prompt that both engines answered."""
        rows = [
            (
                shown(question_of(prompt.prompt, self.job.prepare.markers)),
                _optional_percent(prompt.agreement),
                _optional(prompt.mean_logprob_difference),
                shown(prompt.reference),
                shown(prompt.served),
            )
            for prompt in (self.job.parity.prompts if self.job.parity else ())
        ]
        head = ("prompt", "agreement", "nats apart", "transformers", "vLLM")
        return table_of("Every prompt in both engines", head, rows, numeric=(1, 2))


def _interval_rows(measured: Sequence[EvaluationResult]) -> list[Interval]:
    base = base_of(measured)
    rows = [] if base is None else [Interval(label="base", role="base", value=base)]
    return rows + [
        Interval(
            label=split_label(result.split),
            # A split of another stage is drawn in the neutral colour.
            role=result.split if result.split in {"tuned", "compressed"} else "base",
            value=result.value,
            low=result.low,
            high=result.high,
        )
        for result in measured
    ]


def _candidates(job: JobData) -> Iterator[Candidate]:
    """All models whose size and loss are known: each ratio in bf16, and each scheme."""
    shipped = job.compress.scheme
    for tried in job.distill.tried:
        yield Candidate(f"{tried.ratio:g} gone", tried.bytes, tried.loss)
    for scheme in job.compress.tries:
        if scheme.bytes and "heldOut" in scheme.losses:
            ships = scheme.scheme == shipped
            yield Candidate(scheme.scheme, scheme.bytes, scheme.losses["heldOut"], ships)


def _speed_rows(speed: SpeedFacts) -> list[tuple[str, str]]:
    """Medians, and the slowest and fastest round of each model."""
    ways = (("one request", speed.alone), (f"{speed.requests} requests at once", speed.together))
    rows = [(f"tokens/s of {way}", _compared(speed.scheme, rates)) for way, rates in ways]
    unpaid = [] if speed.pays else [("the scheme", "does not pay in speed here; it saves memory")]
    return rows + unpaid


def _guessing_rows(found: GuessingFacts) -> list[tuple[str, str]]:
    """What was taken of the guesses, whether they changed an answer, and how fast it was."""
    ways = (("one request", found.alone), (f"{found.requests} requests at once", found.together))
    rows = [
        (
            f"guessed tokens, {found.tokens} at a time by {found.method}",
            f"{found.taken:,} of {found.guessed:,} taken ({percent(found.acceptance)})",
        ),
        (
            "tokens of a pass, its own among them",
            f"{found.tokens_per_pass:.2f}",
        ),
        (
            "tokens that are the same without guesses",
            f"{found.same_tokens:,} of {found.compared_tokens:,}",
        ),
        *(
            (
                f"tokens/s of {way}, guessing",
                f"{_rates(rates.guessing)}, without {_rates(rates.plain)}: {rates.ratio:.2f} times",
            )
            for way, rates in ways
        ),
        *(
            (f"guesses to be taken, to speed {way} up", _needed(rates.cost_of_guess))
            for way, rates in ways
            if rates.cost_of_guess is not None
        ),
    ]
    return rows if found.pays else [*rows, ("guessing", "does not pay in speed here")]


def _needed(cost_of_guess: float) -> str:
    """A guess that costs a part of a pass pays where more than that part of guesses is taken."""
    return f"more than {percent(cost_of_guess)}" if cost_of_guess < 1 else "not even all would do"


def _compared(scheme: str, rates: RatesFacts) -> str:
    ours, theirs = _rates(rates.compressed), _rates(rates.unquantized)
    return f"{scheme} {ours}, unquantized {theirs}: {rates.ratio:.2f} times"


def _rates(rates: tuple[float, float, float]) -> str:
    slowest, middle, fastest = rates
    return f"{middle:.0f} ({slowest:.0f} to {fastest:.0f})"


def _optional(value: float | None) -> str:
    return "" if value is None else number(value)


def _optional_percent(part: float | None) -> str:
    return "" if part is None else percent(part)
