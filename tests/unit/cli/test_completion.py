"""Completion, asked of the real shells."""

import shutil
import subprocess
from pathlib import Path

import pytest

from job_folders import a_failed_job, a_finished_job
from tunesmith_cli.arguments import build_parser
from tunesmith_cli.command_reference import subcommands
from tunesmith_cli.shell_completion import completion_script

# What stands on the line, and what completes its last word.
CASES = [
    ("tunesmith rep", {"report"}),
    ("tunesmith status hel", {"helpdesk"}),
    ("tunesmith compare helpdesk ref", {"refused"}),
    ("tunesmith run --until eva", {"evaluate"}),
    ("tunesmith run --se", {"--serve"}),
    ("tunesmith run mani", {"manifest.yaml"}),
    ("tunesmith completion f", {"fish"}),
    ("tunesmith status --home su", {"sub"}),
]
BASH = """
source {script}
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_tunesmith
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
# Types the line and a Tab into an interactive zsh, and takes what its line editor then holds.
ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; autoload -Uz compinit && compinit -u -D; source {script}
seen() {{ print -r -- "SEEN<$BUFFER>"; exit }}; zle -N seen; bindkey "^X" seen; print REA''DY'
zpty -r z out '*READY*'
zpty -w -n z '{line}'$'\\t\\x18'
zpty -r z out '*SEEN<*>*'
print -r -- "${{${{out##*SEEN<}}%%>*}}"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest and a sub-folder, a home folder in it, and the scripts."""
    folder = tmp_path_factory.mktemp("place")
    a_finished_job(folder / "home")
    a_failed_job(folder / "home")
    (folder / "manifest.yaml").touch()
    (folder / "sub").mkdir()
    for shell in ("bash", "zsh", "fish"):
        (folder / f"tunesmith.{shell}").write_text(completion_script(shell, build_parser()))
    return folder


def asked(shell: str, script: str, *, place: Path) -> set[str]:
    """What a shell prints, line by line."""
    binary = shutil.which(shell)
    if binary is None:
        pytest.skip(f"no {shell} is on the PATH")
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [binary, *options, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=place,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(place),
            "TERM": "dumb",
            "TUNESMITH_HOME": str(place / "home"),
        },
    )
    assert done.stderr == ""
    return {line.partition("\t")[0].rstrip("/ ") for line in done.stdout.splitlines()}


@pytest.mark.parametrize(("line", "completed"), CASES)
def test_bash_completes(line: str, completed: set[str], place: Path) -> None:
    words = " ".join(f"'{word}'" for word in line.split())
    script = BASH.format(script=place / "tunesmith.bash", words=words)

    assert asked("bash", script, place=place) == completed


@pytest.mark.parametrize(("line", "completed"), CASES)
def test_fish_completes(line: str, completed: set[str], place: Path) -> None:
    script = f"source {place}/tunesmith.fish; complete -C '{line}'"

    assert asked("fish", script, place=place) == completed


@pytest.mark.parametrize(("line", "completed"), CASES)
def test_zsh_completes(line: str, completed: set[str], place: Path) -> None:
    script = ZSH.format(script=place / "tunesmith.zsh", line=line)
    (word,) = completed

    assert asked("zsh", script, place=place) == {f"{line.rpartition(' ')[0]} {word}"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_in_the_script(shell: str, place: Path) -> None:
    text = (place / f"tunesmith.{shell}").read_text()

    assert all(name in text for name in subcommands(build_parser()))
