"""What was measured, as charts and tables: losses, gates, answers, compression, agreement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tunesmith_api.results import EvaluationResult
from tunesmith_cli.formats import counted, duration, number, percent, size
from tunesmith_cli.metrics import LOWER_IS_BETTER, SUITES, in_order, name_of
from tunesmith_cli.report.artifacts import ParityFile, Sample, Try, Verdict, VerifyFacts
from tunesmith_cli.report.charts import Interval, Point, interval_chart, loss_chart
from tunesmith_cli.report.components import Chart, Table, shown
from tunesmith_cli.report.conversation import Turn, turns_of
from tunesmith_cli.report.job_data import Evidence


@dataclass(frozen=True, slots=True)
class Answered:
    """A held-out prompt as a conversation, with what was wanted and what the models said."""

    turns: list[Turn]
    answers: Sample


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of a job; each part is empty where the job has not come so far."""

    curve: Chart | None = None
    intervals: list[Chart] = field(default_factory=list)
    evaluation: Table | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    samples: list[Answered] = field(default_factory=list)
    tries: Table | None = None
    agreement: Table | None = None
    prompts: Table | None = None


def tell_measured(evidence: Evidence) -> Measured:
    """Everything that the stages measured so far."""
    results = evaluation_of(evidence)
    return Measured(
        curve=_curve(evidence),
        intervals=_intervals(results),
        evaluation=_evaluation(results),
        verdicts=evidence.evaluation.verdicts if evidence.evaluation else [],
        samples=_samples(evidence),
        tries=_tries(evidence.compress.tries),
        agreement=_agreement(evidence.verify, evidence.parity),
        prompts=_prompts(evidence.parity, markers=evidence.prepare.markers),
    )


def evaluation_of(evidence: Evidence) -> list[EvaluationResult]:
    """Every result, of a refused model too, by suite and metric."""
    return in_order(each for result in evidence.results.values() for each in result.evaluation)


def _samples(evidence: Evidence) -> list[Answered]:
    markers = evidence.prepare.markers
    found = evidence.evaluation.samples if evidence.evaluation else []
    return [Answered(turns=turns_of(each.prompt, markers), answers=each) for each in found]


def _curve(evidence: Evidence) -> Chart | None:
    train = [Point(line.step, line.loss) for line in evidence.curve if line.kind == "train"]
    held_out = [Point(line.step, line.loss) for line in evidence.curve if line.kind == "heldOut"]
    if not train and not held_out:
        return None
    best = evidence.train.best_step
    caption = "Nats per target token, by optimizer step. Step 0 is the base model."
    if best is not None:
        caption += f" The weights of step {best:,} are kept: the lowest held-out loss."
    return Chart(drawing=loss_chart(train, held_out, best=best), caption=caption)


def _intervals(results: Sequence[EvaluationResult]) -> list[Chart]:
    charts = []
    for title, group in groupby(results, key=name_of):
        found = list(group)
        is_lower = found[0].metric in LOWER_IS_BETTER
        wanted = "lower is better" if is_lower else "higher is better"
        rows = [*_base_row(found), *(_interval(each) for each in found)]
        caption = f"{title} ({wanted}), {counted(found[0].n, 'row')}"
        charts.append(Chart(drawing=interval_chart(title, rows), caption=caption))
    return charts


def _base_row(found: Iterable[EvaluationResult]) -> list[Interval]:
    bases = [each.base for each in found if each.split == "tuned" and each.base is not None]
    return [Interval(label="base", role="base", value=base) for base in bases[:1]]


def _interval(result: EvaluationResult) -> Interval:
    return Interval(
        label=result.split,
        role=result.split if result.split in {"tuned", "compressed"} else "base",
        value=result.value,
        low=result.low,
        high=result.high,
    )


def _evaluation(results: Sequence[EvaluationResult]) -> Table | None:
    rows = [
        (
            name_of(each),
            each.split,
            number(each.value),
            _between(each),
            "tuned" if each.split == "compressed" else "base",
            _optional(each.base),
            _change(each),
            f"{each.n:,}",
        )
        for each in results
    ]
    head = ("measure", "model", "value", "interval", "against", "its value", "change", "rows")
    return _table("Every measured value", head, rows, numeric=(2, 3, 5, 6, 7))


def _tries(tries: Sequence[Try]) -> Table | None:
    rows = [
        (
            each.scheme,
            *(_part(each.recovery.get(suite)) for suite in SUITES),
            _part(each.min_recovery),
            "accepted" if each.accepted else "too much lost",
            size(each.bytes) if each.bytes else "",
            duration(each.seconds) if each.seconds else "",
        )
        for each in tries
    ]
    head = ("scheme", "held-out recovery", "general recovery", "needed", "verdict", "size", "time")
    return _table("Schemes in the order they were tried", head, rows, numeric=(1, 2, 3, 5, 6))


def _agreement(facts: VerifyFacts, parity: ParityFile | None) -> Table | None:
    if facts.agreement is None:
        return None
    bounds = parity or ParityFile()
    apart = f"{_optional(facts.mean_logprob_difference)} nats"
    rows = [
        ("tokens that agree", f"{percent(facts.agreement)}{_at_least(bounds.min_agreement)}"),
        ("log-probabilities apart", f"{apart}{_at_most(bounds.max_logprob_difference)}"),
        ("prompts", _optional(facts.num_prompts)),
        ("tokens", _optional(facts.num_tokens)),
        ("of them equal", _optional(facts.num_agreed)),
        ("agreement that is credible", _credible(facts.agreement_interval)),
        ("attention kernel", facts.kernel or ""),
        ("eager", "" if facts.enforce_eager is None else shown(facts.enforce_eager)),
        ("vLLM", facts.vllm_version or ""),
        ("time to load", "" if facts.load_seconds is None else duration(facts.load_seconds)),
    ]
    told = [row for row in rows if row[1]]
    return _table("vLLM against transformers", ("", ""), told, numeric=())


def _credible(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    low, high = interval
    return f"{percent(low)} to {percent(high)}, each end at 95 %"


def _prompts(parity: ParityFile | None, *, markers: Sequence[str]) -> Table | None:
    """One row for each prompt that both engines answered."""
    rows = [
        (
            shown(_asked(each.prompt, markers)),
            _part(each.agreement),
            _optional(each.mean_logprob_difference),
            shown(each.reference),
            shown(each.served),
        )
        for each in (parity.prompts if parity else ())
    ]
    head = ("prompt", "agreement", "nats apart", "transformers", "vLLM")
    return _table("Every prompt in both engines", head, rows, numeric=(1, 2))


def _asked(prompt: str, markers: Sequence[str]) -> str:
    """What is asked: the turns but the system's, with their roles where there are several."""
    turns = [turn for turn in turns_of(prompt, markers) if turn.role != "system"]
    if len(turns) <= 1:
        return "".join(turn.text for turn in turns)
    return " · ".join(f"{turn.role}: {turn.text}" if turn.role else turn.text for turn in turns)


def _table(
    caption: str,
    head: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    *,
    numeric: tuple[int, ...],
) -> Table | None:
    if not rows:
        return None
    return Table(caption=caption, head=head, rows=rows, numeric=frozenset(numeric))


def _between(result: EvaluationResult) -> str:
    if result.low is None or result.high is None:
        return ""
    return f"{number(result.low)} – {number(result.high)}"


def _change(result: EvaluationResult) -> str:
    if result.base is None:
        return ""
    delta = result.value - result.base
    return f"{'+' if delta > 0 else '−' if delta < 0 else ''}{number(abs(delta))}"


def _optional(value: float | None) -> str:
    return "" if value is None else number(value)


def _part(value: float | None) -> str:
    return "" if value is None else percent(value)


def _at_least(bound: float | None) -> str:
    return "" if bound is None else f" (at least {percent(bound)})"


def _at_most(bound: float | None) -> str:
    return "" if bound is None else f" (at most {number(bound)})"
