"""What is wrong with rows, and what is done about it, between `formats` and `chat_template`.

`exact_duplicates` and `near_duplicates` find rows that say the same; `row_keys` says when two are
one. `shingles` turns text into numbers that can be compared.
"""

from tunesmith_trainer.data.cleaning.row_keys import question_key, row_key

__all__ = ["question_key", "row_key"]
