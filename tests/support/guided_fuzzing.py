"""One parser under libFuzzer: `python -m guided_fuzzing PARSER CORPUS [FLAGS OF LIBFUZZER]`.

Atheris tells libFuzzer which lines each input reaches, so that it finds what random bytes do not.
The process ends with 0 unless the parser crashes, hangs, or outgrows its memory.
"""

import sys
from contextlib import suppress
from typing import Final

import atheris

# NB: before anything imports them. Only what is imported in here is looked into.
_READ: Final = ["tunesmith_api", "tunesmith_engine", "tunesmith_operator", "tarfile"]
with atheris.instrument_imports(include=_READ):
    from foreign_bytes import PARSERS


def main() -> None:
    """Fuzz until libFuzzer's flags say that it is enough, or something is found."""
    name, *flags = sys.argv[1:]
    parser = PARSERS[name]

    def one_input(content: bytes) -> None:
        with suppress(*parser.refusals):
            parser.check(content)

    atheris.Setup([sys.argv[0], *flags], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
