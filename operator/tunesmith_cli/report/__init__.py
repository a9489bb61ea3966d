"""The report of a job: one HTML page that fetches nothing.

`job_data.py` reads what the stages left behind, `context.py` and the sections beside it put it into
words, tables and charts, and `page.py` renders. Each shows what there is: the job may have failed
half way, or still run. The page may be mailed, archived and opened years later, and it holds what
models and data rows say; so it has no script, no font, no image from elsewhere, and a policy of its
own that forbids them.
"""
