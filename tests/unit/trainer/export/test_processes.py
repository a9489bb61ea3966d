"""What is told of a process that failed."""

import pytest

from tunesmith_trainer.export.processes import last_words

RAISED = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
torch._dynamo.exc.UserError: it depends on data

The error above occurred when calling torch.export.
You may call draft_export.
INFO: [accelerator_registry.cc:43] DestroyAccelerator
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            RAISED,
            (
                "torch._dynamo.exc.UserError: it depends on data "
                "The error above occurred when calling torch.export. You may call draft_export."
            ),
        ),
        ("W0000 00:00 x\nNo such file\nINFO: [x.cc:1] bye\n", "No such file"),
        ("one\ntwo\nthree\nfour\n", "two three four"),
        ("", ""),
    ],
    ids=["an-error", "logs-around-a-line", "lines-alone", "nothing"],
)
def test_the_error_is_told_and_no_log(output: str, expected: str) -> None:
    assert last_words(output) == expected
