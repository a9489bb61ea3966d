"""Chat with model.gguf, on this machine's processor, through llama.cpp.

Needs `pip install xllamacpp`. Without --ask it asks for one message after another; an empty one
ends it.
"""

import argparse
import sys
from pathlib import Path

import xllamacpp as llama


def main() -> None:
    """Ask the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", help="one message, whose answer is printed")
    asked = parser.parse_args().ask
    settings = llama.CommonParams()
    settings.model.path = str(Path(__file__).parent / "model.gguf")
    settings.n_parallel = 1
    model = llama.Server(settings)
    messages: list[dict[str, str]] = []
    while message := asked or input("> "):
        messages.append({"role": "user", "content": message})
        result = model.handle_chat_completions(
            {"messages": messages, "temperature": 0.0, "max_tokens": 256}
        )
        messages.append(result["choices"][0]["message"])
        sys.stdout.write(f"{messages[-1]['content']}\n")
        if asked:
            return


if __name__ == "__main__":
    main()
