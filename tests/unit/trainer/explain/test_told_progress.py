"""What who waits for an explanation sees."""

from io import StringIO

from tunesmith_trainer.explain.told_progress import ToldProgress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_each_phase_has_a_line_and_slow_ones_more() -> None:
    stream, now = StringIO(), [0.0]
    told = ToldProgress(stream, clock=lambda: now[0])

    told.phase("loading the model")
    told.phase("shap")
    told.passes(3)
    now[0] = 11.0
    told.passes(64)
    told.close()

    assert stream.getvalue().splitlines() == [
        "loading the model",
        "shap",
        "shap, 64 forward passes so far",
    ]


def test_on_a_terminal_one_line_is_written_over_and_goes() -> None:
    stream = Terminal()
    told = ToldProgress(stream)

    told.phase("loading the model")
    told.close()

    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")
