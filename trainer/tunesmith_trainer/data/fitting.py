"""Rows that are longer than the model may read: cut at the start, or not at all.

The sixth step of the data. Only what stands before the first answer is ever cut, from its oldest
token on, and never the turn's own opening just before that answer.
"""

from collections.abc import Collection

from tunesmith_trainer.data.masking import TokenRow


def cut_prompt(row: TokenRow, *, longest: int, openings: Collection[int]) -> TokenRow | None:
    """The row without its oldest tokens, at most `longest` tokens; None if that is impossible.

    `openings` are the ids of the tokens that open turns.
    """
    excess = len(row.ids) - longest
    if excess <= 0:
        return row
    answer = row.trained.index(True)
    opened = [at for at in range(answer) if row.ids[at] in openings]
    kept_from = opened[-1] if opened else max(0, answer - 1)
    if excess > kept_from:
        return None
    return TokenRow(ids=row.ids[excess:], trained=row.trained[excess:])
