"""Rows that are longer than the model may read: cut at the start, or not at all.

The sixth step of the data. Only what stands before the first answer is ever cut, from its oldest
token on; the last special token before that answer, which opens its turn, stays with what follows.
"""

from collections.abc import Collection

from tunesmith_trainer.data.loss_mask import TokenRow


def cut_prompt(row: TokenRow, *, longest: int, special: Collection[int]) -> TokenRow | None:
    """The row without its oldest tokens, at most `longest` tokens; None if that is impossible.

    `special` are the ids of the tokens that templates build turns of.
    """
    excess = len(row.ids) - longest
    if excess <= 0:
        return row
    answer = row.trained.index(True)
    # A special token at the very start begins the text, not a turn.
    opened = [at for at in range(1, answer) if row.ids[at] in special]
    kept_from = opened[-1] if opened else max(0, answer - 1)
    if excess > kept_from:
        return None
    return TokenRow(ids=row.ids[excess:], trained=row.trained[excess:])
