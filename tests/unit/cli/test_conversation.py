"""Prompts of several chat templates, read as conversations."""

import pytest

from tunesmith_cli.report.conversation import Part, Turn, parts_of, turns_of

ASKED = [Turn("system", "Be brief."), Turn("user", "Why?\n\nuser rights?")]


@pytest.mark.parametrize(
    ("prompt", "markers"),
    [
        (
            (
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?\n\nuser rights?"
                "<|im_end|>\n<|im_start|>assistant\n"
            ),
            ["<|im_end|>", "<|im_start|>"],
        ),
        (
            (
                "<|bos|><|header|>system<|/header|>\n\nBe brief.<|eot|><|header|>user<|/header|>"
                "\n\nWhy?\n\nuser rights?<|eot|><|header|>assistant<|/header|>\n\n"
            ),
            ["<|/header|>", "<|bos|>", "<|eot|>", "<|header|>"],
        ),
        (
            "<|system|>\nBe brief.</s>\n<|user|>\nWhy?\n\nuser rights?</s>\n<|assistant|>\n",
            ["</s>", "<|assistant|>", "<|system|>", "<|user|>"],
        ),
    ],
    ids=["chatml", "headers", "role tokens"],
)
def test_turns_have_the_roles_that_the_template_names(prompt: str, markers: list[str]) -> None:
    assert turns_of(prompt, markers) == ASKED


def test_a_template_without_roles_leaves_the_text() -> None:
    prompt = "<s>[INST]Why?[/INST]"

    assert turns_of(prompt, ["<s>", "[INST]", "[/INST]"]) == [Turn("", "Why?")]
    assert turns_of("  just text ", []) == [Turn("", "just text")]


def test_a_text_is_cut_at_its_markers_the_longest_first() -> None:
    assert list(parts_of("a<|e|>b<|e|>>", ["<|e|>", "<|e|>>"])) == [
        Part("a", is_marker=False),
        Part("<|e|>", is_marker=True),
        Part("b", is_marker=False),
        Part("<|e|>>", is_marker=True),
    ]
