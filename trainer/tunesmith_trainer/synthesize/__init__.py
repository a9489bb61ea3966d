"""New training rows that a language model writes: what `dataset.synthesis` asks for.

Read it in this order: `stage`, `rounds` (what is asked, and which rows stay), `instructions` (how
it is asked, and what is read of the replies), `checks` and `known_rows` (what is thrown away),
`language_models` with `local_model` (who is asked), `diversity` (whether the rows are alike).
"""
