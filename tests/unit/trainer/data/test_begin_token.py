"""Which token stands in front of plain texts, for tokenizers as the families have them."""

from typing import TYPE_CHECKING

import pytest
from tokenizers.processors import TemplateProcessing

from small_models import CHATML, make_tiny_tokenizer
from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.data.loss_mask import LossMasker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEGIN = "<|endoftext|>"
# Llama 3 and Gemma: once, in front of all turns.
OPENS_WITH_BEGIN = "{{ bos_token }}" + CHATML
REFUSES = "{{ raise_exception('only users may speak') }}"


def tokenizer_of(
    *, bos: str | None, template: str | None, adds: bool = False
) -> "PreTrainedTokenizerBase":
    tokenizer = make_tiny_tokenizer(chat_template=template)
    tokenizer.bos_token = bos
    if adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "begins"),
    [
        (tokenizer_of(bos=BEGIN, template=None, adds=True), True),
        (tokenizer_of(bos=BEGIN, template=OPENS_WITH_BEGIN, adds=True), True),
        (tokenizer_of(bos=BEGIN, template=OPENS_WITH_BEGIN), True),
        (tokenizer_of(bos="<|im_start|>", template=CHATML), False),
        (tokenizer_of(bos=BEGIN, template=CHATML), False),
        (tokenizer_of(bos=BEGIN, template=REFUSES), False),
        (tokenizer_of(bos=BEGIN, template=None), False),
        (tokenizer_of(bos=None, template=CHATML), False),
    ],
    ids=[
        "Llama 2: the tokenizer adds it",
        "Llama 3: tokenizer and template",
        "Gemma from a file that forgot it: the template alone",
        "SmolLM2: its mark of a turn",
        "Qwen: named and never used",
        "a template that refuses",
        "a base model that never had one",
        "none named",
    ],
)
def test_the_begin_token_is_that_of_the_training(
    tokenizer: "PreTrainedTokenizerBase", *, begins: bool
) -> None:
    assert begin_ids(tokenizer) == ([tokenizer.bos_token_id] if begins else [])


@pytest.mark.parametrize("adds", [True, False], ids=["added by the tokenizer", "by us"])
def test_plain_text_has_it_once_and_is_not_trained_to_say_it(*, adds: bool) -> None:
    tokenizer = tokenizer_of(bos=BEGIN, template=OPENS_WITH_BEGIN, adds=adds)

    row = LossMasker(tokenizer).mask_text("My printer")

    assert row.ids[0] == tokenizer.bos_token_id
    assert row.ids.count(tokenizer.bos_token_id) == 1
    assert row.trained == (False,) + (True,) * (len(row.ids) - 1)
