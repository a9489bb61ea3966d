"""What earlier jobs teach a search: records of them, which are near, and what to try first.

Pure decisions over records, with nothing but pydantic and Python's own library: `records.py` is
what is kept, `space.py` what may be tried, `distances.py` which tasks are alike, `sources.py` what
each of them knows, `proposals.py` and `guard.py` what a search makes of it. `stored_lines.py` is
their written form; the file is read at the edge, in `local/search_memory_file.py`.
"""
