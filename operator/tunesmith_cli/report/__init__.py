"""The report of a job: one HTML page that fetches nothing.

`evidence.py` reads what the stages left behind, `story.py` puts it into words and charts, and
`page.py` renders it. Each shows what there is: the job may have failed half way, or still run.
"""
