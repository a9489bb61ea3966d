"""The prepare stage: model and data checked, made into files that later stages read without asking.

Read it in this order: `stage` (what comes in and goes out), `preflight` (whether the job can be
done here), `loading` (files to clean rows), `base_model` and `gguf` (weights and tokenizer),
`tokenization` (rows to tokens with a proven loss mask), `splits`, `data_card` (what people read).
"""
