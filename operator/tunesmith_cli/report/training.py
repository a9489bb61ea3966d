"""The section about training: losses over the steps, and what the remedies came to.

Overfitting is the gap between held-out rows and a sample of the training rows, forgetting the rise
of the loss on general text. A table says what a control run without the remedies shows, if the job
has one; without it nobody can say what they changed, and the section says that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tunesmith_cli.formats import duration, number, percent, size
from tunesmith_cli.report.artifacts import ControlFacts, EstimateFact, TokenFacts
from tunesmith_cli.report.charts import Line, Point, loss_chart
from tunesmith_cli.report.components import Chart, Table, in_words, table_of
from tunesmith_cli.report.job_data import JobData

# Kind of the points in the curve, class of the drawing, words.
_LINES: Final = (
    ("train", "train", "training loss"),
    ("trainSample", "trained", "sample of training rows"),
    ("heldOut", "tuned", "held-out rows"),
)
_OUTCOMES: Final[Mapping[str, str]] = {
    "gap": "Gap: held-out less training rows",
    "baseGap": "Gap of the base model",
    "gapRise": "Gap that training added",
    "heldOutLossRise": "Held-out loss less the base model's",
    "generalLossRise": "General loss less the base model's",
    "kl": "KL from the base model, held-out rows",
    "attackedLossRise": "Held-out loss under attack less the base model's",
    "rationaleLossRise": "Loss of held-out rationales less the base model's",
    "offHighlightsRise": "Share of occlusion off the highlights, less the base model's (no nats)",
    "pairedGapRise": "Gap between groups in held-out rows, less the base model's",
}
_DIFFERENCES: Final[Mapping[str, str]] = {
    "gap": "Gap",
    "heldOutLoss": "Held-out loss",
    "generalLoss": "General loss",
    "attackedLoss": "Held-out loss under attack",
    "pairedGap": "Gap between groups",
    "rationaleLoss": "Loss of held-out rationales",
    "offHighlights": "Share of occlusion off the highlights (no nats)",
}


@dataclass(frozen=True)
class TrainingSection:
    """The numbers of the train stage; each part is empty where the job has not come so far."""

    job: JobData

    @cached_property
    def lines(self) -> list[Line]:
        """The losses of the first chart that were measured, in the order of their drawing."""
        drawn = (Line(label, role, self._points(kind)) for kind, role, label in _LINES)
        return [line for line in drawn if line.points]

    @cached_property
    def losses(self) -> Chart | None:
        """Losses on the job's own rows by step, of a training that still runs as well."""
        if not self.lines:
            return None
        best = self.job.train.best_step
        # Of preferences it is ln 2 at first, whatever the model.
        unit = "target token" if self.job.train.preference is None else "pair"
        caption = f"Nats per {unit}, by optimizer step. Step 0 is the base model."
        if best is not None:
            caption += f" The weights of step {best:,} are kept: the lowest held-out loss."
        return Chart(drawing=loss_chart(self.lines, best=best), caption=caption)

    @cached_property
    def general(self) -> Chart | None:
        """The loss on general text by step: what rises here is being forgotten."""
        points = self._points("general")
        if not points:
            return None
        drawing = loss_chart(
            [Line("general text", "general", points)], best=self.job.train.best_step
        )
        caption = "The loss on a sample of general text: a rise is what the model forgets."
        return Chart(drawing=drawing, caption=caption)

    @cached_property
    def kl(self) -> Chart | None:
        """How far the model moves from its base, where that was measured."""
        points = self._points("kl")
        if not points:
            return None
        line, best = Line("KL from the base", "general", points), self.job.train.best_step
        drawing = loss_chart([line], best=best, what="KL divergence from the base model")
        caption = "KL divergence from the base model, nats per target token of held-out rows."
        return Chart(drawing=drawing, caption=caption)

    @cached_property
    def work(self) -> Table | None:
        """What the steps were made of, and what they took; only what is known."""
        facts = self.job.train
        rows: list[tuple[str, str]] = []
        if facts.tokens:
            rows += _token_rows(facts.tokens)
        if facts.tokens_per_second is not None:
            rows.append(("Tokens a second", number(facts.tokens_per_second)))
        if facts.mfu is not None:
            rows.append(("MFU: the part of the devices' peak", percent(facts.mfu)))
        if facts.grad_norm:
            norms = f"{number(facts.grad_norm.median)}, at most {number(facts.grad_norm.max)}"
            rows.append(("Gradient norm before clipping, in the median", norms))
        if facts.peak_memory:
            rows.append(("Peak memory of the process", size(facts.peak_memory.resident_bytes)))
            if facts.peak_memory.device_bytes is not None:
                rows.append(("Peak memory of the device", size(facts.peak_memory.device_bytes)))
        return table_of(
            "What training computed, and took", ("measure", "value"), rows, numeric=(1,)
        )

    @cached_property
    def outcome(self) -> Table | None:
        """How far the kept weights have overfitted and forgotten."""
        known = self.job.train.outcome
        rows = [
            (words, f"{known[name].value:+.3f}", _interval(known[name]))
            for name, words in _OUTCOMES.items()
            if name in known
        ]
        head = ("nats per target token", "value", "interval")
        return table_of("Overfitting and forgetting", head, rows, numeric=(1, 2))

    @cached_property
    def remedies(self) -> Table | None:
        """A row for each remedy that was on."""
        rows = [
            (
                remedy.remedy,
                remedy.setting,
                "; ".join(
                    f"{in_words(name)} {estimate.value:+.3f}"
                    for name, estimate in remedy.effect.items()
                ),
                ", ".join(
                    f"{number(value)} {in_words(name)}" for name, value in remedy.cost.items()
                ),
            )
            for remedy in self.job.train.remedies
        ]
        head = ("remedy", "setting", "outcome of the run", "cost")
        return table_of("Remedies that were on", head, rows, numeric=())

    @cached_property
    def control(self) -> Table | None:
        """What changed beside the control run, if there was one."""
        control = self.job.train.control
        if control is None:
            return None
        rows = [
            (
                words,
                f"{control.differences[name].value:+.3f}",
                _interval(control.differences[name]),
                _verdict(control.differences[name]),
            )
            for name, words in _DIFFERENCES.items()
            if name in control.differences
        ]
        caption = f"With the remedies less without, after {control.steps:,} steps"
        head = ("nats per target token", "difference", "interval", "shows")
        return table_of(caption, head, rows, numeric=(1, 2))

    @property
    def about(self) -> str:
        """What the tables can say, and what they cannot."""
        control = self.job.train.control
        if control is None:
            return (
                "One run shows an outcome, not what it would have been otherwise: "
                "training.control measures what the remedies changed."
            )
        return _about(control)

    def _points(self, kind: str) -> list[Point]:
        return [Point(line.step, line.loss) for line in self.job.curve if line.kind == kind]


def _token_rows(tokens: TokenFacts) -> list[tuple[str, str]]:
    computed = tokens.total + tokens.padding
    trained = tokens.trained / tokens.total if tokens.total else 0.0
    padding = tokens.padding / computed if computed else 0.0
    return [
        ("Tokens read", f"{tokens.total:,}"),
        ("Of them trained", f"{tokens.trained:,} ({percent(trained)})"),
        ("Padding beside them", f"{tokens.padding:,} ({percent(padding)} of both)"),
    ]


def _about(control: ControlFacts) -> str:
    more = control.seconds_per_step
    apart = f"{number(abs(more))} s {'longer' if more > 0 else 'less'}"
    return (
        f"The control run had none of {', '.join(control.without)}, and all else alike; intervals "
        f"are paired by row. It took {duration(control.seconds)}; with the remedies a step takes "
        f"{apart}, in the median."
    )


def _interval(estimate: EstimateFact) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:+.3f} to {estimate.high:+.3f}"


def _verdict(estimate: EstimateFact) -> str:
    if estimate.low is None or estimate.high is None:
        return "too few rows to tell"
    if estimate.high < 0:
        return "a gain"
    return "a loss" if estimate.low > 0 else "no difference beyond chance"
