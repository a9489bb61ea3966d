"""The wheel, built as a release is and installed elsewhere, works without the repository.

Whoever builds it again gets the same bytes, so that a release can be held against its source.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
JOB = """\
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {name: own}
spec:
  model: {uri: "file:///models/base"}
  dataset: {train: {uri: "file:///data/rows.jsonl"}}
  output: {model: own}
"""
# One process, since each takes seconds to import: files that are read, definitions, help.
LOOK = """\
import tunesmith_serving, tunesmith_trainer
from tunesmith_cli.main import main
from tunesmith_cli.report.page import page_templates
templates = page_templates()
print(*(templates.get_template(name).name for name in templates.list_templates(["jinja"])))
print(tunesmith_serving.__file__, tunesmith_trainer.__file__)
main(["crds", "--directory", "crds"])
main(["--help"])
"""


UV = ROOT / ".venv/bin/uv"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(ROOT, tmp_path_factory.mktemp("wheel"))


def _built(source: Path, folder: Path) -> Path:
    build: list[str | Path] = [UV, "build", "--wheel", "--quiet", "--out-dir", folder, source]
    subprocess.run(build, check=True, env=_sources())
    (wheel,) = folder.glob("tunesmith-*-py3-none-any.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A fresh environment with nothing but the wheel."""
    root, variables = wheel.parent, _sources()
    subprocess.run([UV, "venv", "--quiet", root / "venv"], check=True, env=variables)
    python: list[str | Path] = ["--python", root / "venv/bin/python"]
    install: list[str | Path] = [
        UV,
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--offline",
        *python,
        wheel,
    ]
    subprocess.run(install, check=True, env=variables)
    return root / "venv"


def _sources() -> dict[str, str]:
    """The environment with the indexes that setup takes packages from: the build backend's."""
    script = f"cd {ROOT} && source scripts/package_sources.sh && env -0"
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in told.stdout.split("\0") if "=" in line)


def _run(installed: Path, program: str, *arguments: str) -> str:
    """In an empty folder; what the wheel requires comes from the environment of the tests.

    NB: of that the repository is no part, though it is installed there as editable: Python reads
    the file that says so in folders of its own only, and not in those of PYTHONPATH.
    """
    folder = installed.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    (folder / "job.yaml").write_text(JOB)
    ran = subprocess.run(
        [installed / "bin" / program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_holds_every_file_that_the_packages_read(installed: Path) -> None:
    (site,) = installed.glob("lib/python*/site-packages")
    sources = [
        path.relative_to(root)
        for root in (ROOT / "operator", ROOT / "trainer", ROOT / "serving")
        for package in root.glob("tunesmith_*")
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]

    assert len(sources) > 100
    assert [path for path in sources if not (site / path).is_file()] == []


def test_built_again_elsewhere_and_at_another_time_it_is_the_same(
    wheel: Path, tmp_path: Path
) -> None:
    hidden = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "dist")
    again = shutil.copytree(ROOT, tmp_path / "again", ignore=hidden)
    for path in again.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700 if path.is_dir() else 0o600)

    assert _built(again, tmp_path).read_bytes() == wheel.read_bytes()


def test_the_command_runs_away_from_the_repository(installed: Path) -> None:
    looked = _run(installed, "python", "-c", LOOK)

    assert str(installed) in looked
    assert str(ROOT) not in looked
    assert "report.html.jinja" in looked
    assert "usage: tunesmith" in looked
    _run(installed, "tunesmith", "validate", "job.yaml")
    for file in (ROOT / "charts" / "tunesmith" / "files" / "crds").iterdir():
        assert (installed.parent / "elsewhere" / "crds" / file.name).read_text() == file.read_text()
