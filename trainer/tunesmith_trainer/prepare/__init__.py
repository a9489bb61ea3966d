"""The prepare stage: model and data checked, made into files that later stages read without asking.

Read it in this order: `stage` (what comes in and goes out), `base_model` and `gguf` (weights and
tokenizer), `limits` (whether the machine can hold the job), `gathering` (files to clean rows),
`tokenizing` (rows to tokens with a proven loss mask), `sides` (the split), `card` and `sample`
(what people read).
"""
