"""Rows on their way to tokens, and tokens on disk.

`prepare` goes through it in this order: `sources` (files to raw rows), `formats` (raw rows to
conversations), `cleaning`, `splitting`, `rendering` (conversations to tokens with a loss mask),
`fitting` (rows that are too long). What it leaves behind is read back through `prepared`.
"""
