"""Chat with model.gguf, on this machine's processor, through llama.cpp.

Needs `pip install cyllama==0.2.18`. Without --ask it asks for one message after another; an empty
one ends it.
"""

import argparse
import sys
from pathlib import Path

from cyllama import LLM, GenerationConfig


def main() -> None:
    """Ask the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", help="one message, whose answer is printed")
    asked = parser.parse_args().ask
    settings = GenerationConfig(temperature=0.0, max_tokens=256)
    model = LLM(str(Path(__file__).parent / "model.gguf"), config=settings)
    messages: list[dict[str, str]] = []
    while message := asked or input("> "):
        messages.append({"role": "user", "content": message})
        pieces = []
        for piece in model.chat(messages, stream=True):
            pieces.append(piece)
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        messages.append({"role": "assistant", "content": "".join(pieces)})
        if asked:
            return


if __name__ == "__main__":
    main()
