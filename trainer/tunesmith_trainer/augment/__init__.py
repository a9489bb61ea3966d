"""Children of training rows, in other words: what `dataset.augmentation` asks for.

Read it in this order: `children` (which rows get some, and which of them stay), `meaning` (whether
a child says what its parent says), then the generators: `synonyms` over `wordnet` and `inflection`,
`back_translation`, `paraphrase`.
"""
