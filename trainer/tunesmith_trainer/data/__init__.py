"""Rows on their way to tokens, and tokens on disk; every stage reads its rows from here.

`prepare` goes through it in this order: `readers` (files to raw rows), `formats` (raw rows to
conversations), `cleaning` (empty rows, duplicates), `chat_template` (conversations to text),
`loss_mask` (text to tokens, and which of them are trained), `token_rows` (tokens on disk). What it
leaves behind is read back through `prepared`. `rows` holds the records that pass between the steps.
"""
