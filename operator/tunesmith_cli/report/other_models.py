"""The tables about models elsewhere: how a judge decided, and what a managed model costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_api.results import EvaluationResult
from tunesmith_cli.formats import number, percent
from tunesmith_cli.report.artifacts import EvaluationFile
from tunesmith_cli.report.components import Table, table_of


@dataclass(frozen=True, slots=True)
class OtherModels:
    """Each table is None where the job asked no such model."""

    file: EvaluationFile
    results: Sequence[EvaluationResult]

    @property
    def judge(self) -> Table | None:
        """How often which answer won, whether places mattered, and what it took."""
        judged = self.file.judge
        if judged is None:
            return None
        share, ends = judged.first_share, judged.first_share_interval
        first = "" if share is None else percent(share)
        interval = f" ({percent(ends[0])} to {percent(ends[1])})" if ends else ""
        rows = [
            ("tuned is better", f"{judged.tuned:,}"),
            ("base is better", f"{judged.base:,}"),
            ("ties", f"{judged.tie:,}"),
            ("of them equal answers", f"{judged.identical:,}"),
            ("of them another verdict in the other order", f"{judged.inconsistent:,}"),
            ("pairs without a verdict", f"{judged.nonsense:,}"),
            ("verdicts for the one shown first", f"{first}{interval}"),
            ("tokens", f"{judged.prompt_tokens:,} read, {judged.completion_tokens:,} written"),
            ("cost", "" if judged.cost is None else number(judged.cost)),
        ]
        told = [row for row in rows if row[1]]
        caption = f"Pairs of answers that {judged.model} compared, in both orders"
        return table_of(caption, ("", ""), told, numeric=())

    @property
    def make_or_buy(self) -> Table | None:
        """Quality and use of the tuned and of the managed model."""
        bought = self.file.reference
        if bought is None:
            return None
        names = {"tuned": "tuned", "reference": bought.model}
        asked = {
            result.split: result
            for result in self.results
            if result.suite == "heldOut" and result.metric == self.file.metric
        }
        rows = [
            (
                names[split],
                number(asked[split].value) if split in asked else "",
                f"{used.prompt_tokens:,}",
                f"{used.completion_tokens:,}",
                "" if used.price is None else number(used.price),
            )
            for split, used in bought.per_thousand_requests.items()
            if split in names
        ]
        head = ("model", self.file.metric or "score", "tokens read", "tokens written", "price")
        return table_of("For 1,000 requests", head, rows, numeric=(1, 2, 3, 4))
