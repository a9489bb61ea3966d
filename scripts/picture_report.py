"""Take the pictures of docs/images, with the Chromium that the tests use.

`.venv/bin/python scripts/picture_report.py` shows the finished job of the tests; `… REPORT.html` a
report of yours.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

# Where on the page each picture begins, and how high it is.
PARTS = {"report": ("h1", 760), "training": ("#training", 560), "answers": ("#answers", 560)}
WIDTH = 1000


def main() -> None:
    """Write a PNG for each part."""
    from browser import chromium

    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        page = Path(sys.argv[1]).resolve() if sys.argv[1:] else report_of_tests(Path(home))
        for name, (heading, height) in PARTS.items():
            browser.resize(WIDTH, height)
            browser.open(page.as_uri())
            browser.ask(f"document.querySelector('{heading}').scrollIntoView()")
            path = ROOT / "docs" / "images" / f"{name}.png"
            browser.picture(path)
            print(f"{path}: {path.stat().st_size >> 10} kB")


def report_of_tests(home: Path) -> Path:
    """The report of a job that is finished, with made-up figures."""
    from job_folders import a_finished_job
    from tunesmith_cli.report.page import write_report

    job = a_finished_job(home)
    return write_report(job.folder, job.status)


if __name__ == "__main__":
    main()
