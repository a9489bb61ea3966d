"""Rows that teach what nobody wants to be answered, each rule a question about one row.

They are rules for conversations: Gopher's and C4's were made for web documents, and would throw
most short answers away. All look at what is trained, so at answers, or at a text.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from tunesmith_trainer.data.cleaning.row_texts import last_answer, last_question
from tunesmith_trainer.data.cleaning.white_space import FENCE
from tunesmith_trainer.data.rows import Row

_BOILERPLATE: Final = re.compile(
    r"all rights reserved|privacy policy|cookie policy|(?:accept|use[sd]?) (?:of )?(?:all )?cookies"
    r"|terms (?:of use|of service|and conditions) (?:apply|of)|subscribe to (?:our|the) newsletter"
    r"|sign up for our newsletter|click here to (?:subscribe|read|continue|unsubscribe)"
    r"|enable javascript|javascript is (?:disabled|required)|share (?:this )?on facebook"
    r"|skip to (?:main )?content|lorem ipsum|posted in uncategorized|copyright ©|© (?:19|20)\d\d",
    re.IGNORECASE,
)
# Tags that must be closed; of p, li, td and the like HTML lets the end out.
_TAG: Final = re.compile(
    r"<(/?)(a|abbr|article|b|blockquote|code|div|em|figure|font|footer|form|h[1-6]|header|i|main|nav"
    r"|ol|pre|script|section|span|strong|style|sub|sup|table|textarea|u|ul)(?:\s[^<>]{0,500})?>",
    re.IGNORECASE,
)
_ENTITY: Final = re.compile(
    r"&(?:amp;)*(?:nbsp|amp|lt|gt|quot|#\d{2,6}|#x[0-9a-f]{2,5});", re.IGNORECASE
)
# Code shows tags and entities on purpose.
_CODE: Final = re.compile(r"^ {0,3}```.*?^ {0,3}```|`[^`\n]+`", re.DOTALL | re.MULTILINE)

_CANNOT: Final = (
    r"(?:can(?:['’]t|not)|(?:am|['’]m) (?:not able|unable) to|won['’]t(?: be able to)?"
    r"|will not(?: be able to)?|must decline to)"
)
# Whom a person helps to move, or what he writes, is no refusal.
_REFUSED: Final = (
    r"(?:(?:help|assist)(?: you)? with (?:that|this|your|such)|assist\b(?! you in)|comply|engage in"
    r"|fulfil+ (?:that|this|your|such)|provide (?:you with )?(?:that|this|any|such|information|"
    r"assistance|instructions|advice|medical|legal)|discuss (?:this|that|these|such)"
    r"|answer (?:that|this|your)|(?:create|generate|produce|write) (?:that|this|such|content))"
)
_REFUSAL: Final = re.compile(
    r"as an? (?:ai|artificial intelligence|(?:large )?language)(?: language)? ?(?:model|assistant)"
    r"|i(?:['’]m| am) (?:just |only )?an? (?:ai|(?:large )?language model)\b"
    rf"|\b(?:i|but)(?: {_CANNOT}|['’]m (?:not able|unable) to) {_REFUSED}"
    r"|(?:sorry|afraid),?(?: but)?(?: that)? i can(?:['’]t|not) (?:help with|do) that\b"
    r"|(?:against|violates) my (?:programming|guidelines)|my knowledge cutoff",
    re.IGNORECASE,
)
# A refusal says so at once; further behind it may be told of.
_REFUSED_WITHIN: Final = 250

_WORD: Final = re.compile(r"\w+")
_LEAST_ECHO: Final = 3
# No sentence ends in these, or with these.
_OPEN_WORDS: Final = re.compile(
    "(?:a|an|the|and|or|because|if|whether|my|your|our|their|every|into|onto|from|than"
    "|der|die|das|ein|eine|und|oder|weil|dass|un|une|le|la|les|el|los|las|y|et|ou|que)"
)
# NB: no round bracket, in which faces end.
_OPEN_MARKS: Final = (",", ";", "[", "{", "&")
_LEAST_TRUNCATED: Final = 8

_LEAST_BINARY: Final = 8
_BINARY_SHARE: Final = 0.05
_ENDLESS: Final = re.compile(r"[!-~]{10000}")
_MOST_LOOKED_AT: Final = 100_000


def has_boilerplate(row: Row) -> bool:
    """Whether an answer, or the text, has words that web pages put around theirs."""
    return any(_BOILERPLATE.search(text) for text in _taught(row))


def has_broken_markup(row: Row) -> bool:
    """Whether tags are opened and never closed, or the other way round, or entities are left."""
    return any(_is_broken(_CODE.sub("", text)) for text in _taught(row))


def _is_broken(text: str) -> bool:
    if _ENTITY.search(text):
        return True
    balance: Counter[str] = Counter()
    for tag in _TAG.finditer(text):
        balance[tag[2].lower()] += -1 if tag[1] else 1
    return any(balance.values())


def has_unbalanced_fences(row: Row) -> bool:
    """Whether a code block is opened and never closed."""
    return any(len(FENCE.findall(text)) % 2 for text in _taught(row))


def is_truncated(row: Row) -> bool:
    """Whether the last answer, or the text, stops where no sentence does."""
    answer = (row.text if row.text is not None else last_answer(row)) or ""
    words = _WORD.findall(answer[-500:])
    if len(words) < _LEAST_TRUNCATED or (row.messages and row.messages[-1].tool_calls):
        return False
    end = answer.rstrip()
    return end.endswith(_OPEN_MARKS) or (
        end.endswith(words[-1]) and bool(_OPEN_WORDS.fullmatch(words[-1]))
    )


def is_echo(row: Row) -> bool:
    """Whether the last answer is the question again; greetings may well be."""
    answer, question = last_answer(row), last_question(row)
    if answer is None or question is None:
        return False
    words = _WORD.findall(answer.casefold())
    return len(words) >= _LEAST_ECHO and words == _WORD.findall(question.casefold())


def is_refusal(row: Row) -> bool:
    """Whether the last answer declines, as assistants do."""
    answer = last_answer(row)
    return answer is not None and bool(_REFUSAL.search(answer[:_REFUSED_WITHIN]))


def is_binary(row: Row) -> bool:
    """Whether a text is hardly text, or has no end of a word."""
    texts = [row.text] if row.text is not None else [turn.said for turn in row.messages]
    return any(_is_no_text(text) for text in texts)


def _is_no_text(text: str) -> bool:
    looked_at = text[:_MOST_LOOKED_AT]
    odd = 0
    if not (looked_at.isascii() and looked_at.isprintable()):
        odd = sum(number for char, number in Counter(looked_at).items() if _is_odd(char))
    is_noise = odd >= max(_LEAST_BINARY, _BINARY_SHARE * len(looked_at))
    return is_noise or bool(_ENDLESS.search(text))


def _is_odd(char: str) -> bool:
    # Control characters, halves of pairs, private and unassigned ones. Joiners and marks of
    # direction (Cf) belong to scripts; controls from U+0080 on are mojibake, which can be mended.
    category = unicodedata.category(char)
    is_control = category == "Cc" and char.isascii() and char not in "\t\n\r"
    return is_control or char == "\ufffd" or category in {"Cs", "Co", "Cn"}


def _taught(row: Row) -> list[str]:
    if row.text is not None:
        return [row.text]
    return [turn.content for turn in row.messages if turn.is_trained]


# By the name of their field below `dataset.cleaning.noise`.
NOISE_RULES: Final[Mapping[str, Callable[[Row], bool]]] = {
    "boilerplate": has_boilerplate,
    "brokenMarkup": has_broken_markup,
    "unbalancedFences": has_unbalanced_fences,
    "truncatedAnswers": is_truncated,
    "echoAnswers": is_echo,
    "refusals": is_refusal,
    "binaryText": is_binary,
}
