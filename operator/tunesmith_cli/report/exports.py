"""The section about formats for devices: what each keeps, how large it is, and how fast it ran."""

from dataclasses import dataclass
from functools import cached_property

from tunesmith_api.results import ExportedFormat
from tunesmith_cli.formats import counted, number, size
from tunesmith_cli.report.components import Table, table_of
from tunesmith_cli.report.job_data import JobData


@dataclass(frozen=True)
class ExportsSection:
    """What the stage `export` has found."""

    job: JobData

    @property
    def about(self) -> str:
        """In sentences, what the numbers are."""
        first = self.job.export.formats[0]
        return (
            f"Losses are nats per target token of {counted(first.rows, 'held-out row')}, beside "
            f"the tuned model's {number(first.tuned_loss)}. Tokens are those of greedy answers "
            "that are equal to transformers' in fp32 before the first that differs. Speed, for one "
            "conversation, and memory are those of the machine that wrote them, with "
            f"{counted(first.threads or 0, 'thread')}; the model in bf16 has "
            f"{size(first.bf16_bytes)}."
        )

    @cached_property
    def formats(self) -> Table | None:
        """A row for each format."""
        rows = [_row(each) for each in self.job.export.formats]
        head = (
            "format", "size", "loss", "rise", "at most", "equal tokens", "tokens/s",
            "prompt tokens/s", "peak memory", "engine",
        )  # fmt: skip
        return table_of("Every format", head, rows, numeric=range(1, 9))


def _row(each: ExportedFormat) -> tuple[str, ...]:
    return (
        f"{each.format} {each.precision}",
        size(each.bytes),
        number(each.loss),
        f"{each.loss_rise:+.4f}",
        number(each.max_loss_rise),
        f"{each.agreed_tokens} of {each.compared_tokens}",
        _optional(each.tokens_per_second),
        _optional(each.prompt_tokens_per_second),
        size(each.peak_memory_bytes) if each.peak_memory_bytes else "",
        each.engine,
    )


def _optional(value: float | None) -> str:
    return "" if value is None else number(value)
