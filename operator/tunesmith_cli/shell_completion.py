"""Completion scripts for bash, zsh and fish, written from the parser, so that they know all of it.

Names of jobs, models and deployments are read by the shell itself from the home folder: Python
would take longer to start than a person waits for a Tab.
"""

import argparse
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tunesmith_cli.command_reference import arguments_of, subcommands
from tunesmith_cli.options import CommandParser
from tunesmith_engine.stages.catalog import CATALOG

# By metavar: below which folder of the home lie the names, and in which file of each.
_NAMES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "JOB": (("jobs", "status.json"),),
    "OTHER": (("jobs", "status.json"),),
    "MODEL": (("models", "*/manifest.json"),),
    "NAME": (("deployments", "manifest.yaml"), ("jobs", "status.json")),
    "JOB|FOLDER": (("jobs", "status.json"),),
    "FILE|JOB": (("jobs", "status.json"),),
}
_FILES: Final = frozenset({"FILE", "URI|PATH", "JOB|FOLDER", "FILE|JOB"})
_FOLDERS: Final = frozenset({"DIR"})
# Options whose NAME is a new one.
_NEW_NAMES: Final = frozenset({"--name", "--namespace", "--leader-election-namespace"})


@dataclass(frozen=True, slots=True)
class Value:
    """What may stand at a place: words, names of the home folder, files or folders."""

    words: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    has_files: bool = False
    has_folders: bool = False


def completion_script(shell: str, parser: CommandParser) -> str:
    """The script for `shell`: bash, zsh or fish."""
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return "\n".join(write(subcommands(parser))) + "\n"


def value_of(action: argparse.Action) -> Value | None:
    """What an option's value or an argument may be; None for an option that takes none."""
    if action.option_strings and action.nargs == 0:
        return None
    if action.choices is not None:
        return Value(words=tuple(map(str, action.choices)))
    metavar = str(action.metavar)
    if metavar == "STAGE":
        return Value(words=tuple(CATALOG.names))
    if _NEW_NAMES & set(action.option_strings):
        return Value()
    return Value(
        names=_NAMES.get(metavar, ()),
        has_files=metavar in _FILES,
        has_folders=metavar in _FOLDERS,
    )


def _options(parser: CommandParser) -> Iterator[tuple[str, argparse.Action]]:
    for action in arguments_of(parser):
        yield from ((option, action) for option in action.option_strings)


def _arguments(parser: CommandParser) -> list[argparse.Action]:
    return [action for action in arguments_of(parser) if not action.option_strings]


def _bash(commands: Mapping[str, CommandParser]) -> Iterator[str]:
    yield _BASH_HEAD.format(commands=" ".join(commands))
    for name, parser in commands.items():
        yield f"    {name})"
        yield '      case "$prev" in'
        for option, action in _options(parser):
            value = value_of(action)
            if value is not None:
                yield f"        {option}) {_bash_value(value)}; return ;;"
        yield "      esac"
        options = " ".join(["--help", *(option for option, _ in _options(parser))])
        yield f"      if [[ $cur == -* ]]; then _tunesmith_words '{options}'; return; fi"
        # Those of all arguments: with options between them a place does not say which one it is.
        values = dict.fromkeys(value_of(action) or Value() for action in _arguments(parser))
        yield from (f"      {_bash_value(value)}" for value in values)
        yield "      ;;"
    yield "  esac\n}\ncomplete -o filenames -F _tunesmith tunesmith"


def _bash_value(value: Value) -> str:
    parts = [f"_tunesmith_words '{' '.join(value.words)}'"] if value.words else []
    parts += [f"_tunesmith_names {folder} '{file}'" for folder, file in value.names]
    parts += ["_tunesmith_paths -f"] if value.has_files else []
    parts += ["_tunesmith_paths -d"] if value.has_folders else []
    return "; ".join(parts) or ":"


_BASH_HEAD: Final = """\
# bash completion of tunesmith: source <(tunesmith completion bash)
_tunesmith_words() {{ COMPREPLY+=($(compgen -W "$1" -- "$cur")); }}
_tunesmith_paths() {{ local IFS=$'\\n'; COMPREPLY+=($(compgen "$1" -- "$cur")); }}
_tunesmith_names() {{
  local path names=
  for path in "${{TUNESMITH_HOME:-$HOME/.tunesmith}}/$1"/*/$2; do
    [[ -e $path ]] || continue
    path=${{path#"${{TUNESMITH_HOME:-$HOME/.tunesmith}}/$1/"}}
    names+=" ${{path%%/*}}"
  done
  _tunesmith_words "$names"
}}
_tunesmith() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    _tunesmith_words '{commands} --help --version'
    return
  fi
  case ${{COMP_WORDS[1]}} in"""


def _zsh(commands: Mapping[str, CommandParser]) -> Iterator[str]:
    yield _ZSH_HEAD
    for name, parser in commands.items():
        yield f"      {shlex.quote(f'{name}:{_zsh_text(_help_of(parser))}')}"
    yield _ZSH_MIDDLE
    for name, parser in commands.items():
        yield f"    {name}) _arguments \\"
        for option, action in _options(parser):
            value = value_of(action)
            taken = "" if value is None else f":{_zsh_label(action)}:{_zsh_value(value)}"
            said = _zsh_text(action.help or "")
            yield _zsh_spec(f"{option}[{said}]{taken}")
        for place, action in enumerate(_arguments(parser), start=1):
            value = value_of(action) or Value()
            where = "*" if action.nargs == "+" else str(place)
            yield _zsh_spec(f"{where}:{_zsh_label(action)}:{_zsh_value(value)}")
        yield "      '--help[show the help of the command]' ;;"
    yield "  esac\n}\n(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"
    yield "compdef _tunesmith tunesmith"


def _zsh_value(value: Value) -> str:
    if value.words:
        return f"({' '.join(value.words)})"
    names = [f"_tunesmith_names {folder} '{file}'" for folder, file in value.names]
    files = ["_files -/"] if value.has_folders else ["_files"] if value.has_files else []
    return "{" + "; ".join([*names, *files]) + "}" if names or files else " "


def _zsh_label(action: argparse.Action) -> str:
    return _zsh_text(str(action.metavar or action.dest))


def _zsh_text(text: str) -> str:
    # Brackets and colons are marks of `_arguments` and `_describe`.
    return text.replace("[", "(").replace("]", ")").replace(":", "\\:")


def _zsh_spec(text: str) -> str:
    return f"      {shlex.quote(text)} \\"


def _help_of(parser: CommandParser) -> str:
    # The first sentence of the description: argparse keeps the short help with the parent alone.
    text = " ".join((parser.description or "").split())
    return text.partition(". ")[0].rstrip(".")


_ZSH_HEAD: Final = """\
#compdef tunesmith
# zsh completion of tunesmith: source <(tunesmith completion zsh)
_tunesmith_names() {
  local -a names
  names=( ${TUNESMITH_HOME:-$HOME/.tunesmith}/$1/*/${~2}(N) )
  names=( ${(u)${names#${TUNESMITH_HOME:-$HOME/.tunesmith}/$1/}%%/*} )
  compadd -a names
}
_tunesmith() {
  if (( CURRENT == 2 )); then
    local -a commands=("""
_ZSH_MIDDLE: Final = """\
    )
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in"""


def _fish(commands: Mapping[str, CommandParser]) -> Iterator[str]:
    yield _FISH_HEAD
    for name, parser in commands.items():
        said = shlex.quote(_help_of(parser))
        yield f"complete -c tunesmith -n __fish_use_subcommand -a {name} -d {said}"
    for name, parser in commands.items():
        begin = f"complete -c tunesmith -n '__fish_seen_subcommand_from {name}'"
        for action in arguments_of(parser):
            value = value_of(action)
            taken = "" if value is None else f" -x {_fish_value(value)}".rstrip()
            said = f" -d {shlex.quote(action.help or '')}"
            flags = "".join(
                f" -l {option[2:]}" if option.startswith("--") else f" -s {option[1:]}"
                for option in action.option_strings
            )
            if flags:
                yield f"{begin}{flags}{taken}{said}"
            elif value is not None and _fish_value(value):
                yield f"{begin} {_fish_value(value)}"


def _fish_value(value: Value) -> str:
    parts = [*value.words]
    parts += [f"(__tunesmith_names {folder} '{file}')" for folder, file in value.names]
    parts += ["(__fish_complete_path)"] if value.has_files else []
    parts += ["(__fish_complete_directories)"] if value.has_folders else []
    return f'-a "{" ".join(parts)}"' if parts else ""


_FISH_HEAD: Final = """\
# fish completion of tunesmith, for ~/.config/fish/completions/tunesmith.fish
function __tunesmith_names
  set -l home $TUNESMITH_HOME
  test -n "$home"; or set home ~/.tunesmith
  for path in (eval "printf '%s\\n' \\"$home/$argv[1]\\"/*/$argv[2]" 2>/dev/null)
    test -e $path; and string replace -r '/.*' '' (string replace "$home/$argv[1]/" '' $path)
  end | sort -u
end
complete -c tunesmith -f
complete -c tunesmith -n __fish_use_subcommand -l help -d 'show the commands'
complete -c tunesmith -n __fish_use_subcommand -l version -d 'show the version'"""
