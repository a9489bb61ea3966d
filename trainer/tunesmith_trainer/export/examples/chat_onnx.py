"""Chat with the model in this folder, on this machine's processor.

Needs `pip install onnxruntime-genai`. Without --ask it asks for one message after another; an empty
one ends it.
"""

import argparse
import json
import sys
from pathlib import Path

import onnxruntime_genai as genai


def answer(model: genai.Model, tokenizer: genai.Tokenizer, messages: list[dict[str, str]]) -> str:
    """Print the answer as it is made, and return it."""
    prompt = messages[-1]["content"]
    if (Path(__file__).parent / "chat_template.jinja").exists():
        prompt = tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)
    ids = tokenizer.encode(prompt)
    settings = genai.GeneratorParams(model)
    settings.set_search_options(do_sample=False, max_length=len(ids) + 256)
    generator = genai.Generator(model, settings)
    generator.append_tokens(ids)
    pieces, stream = [], tokenizer.create_stream()
    while not generator.is_done():
        generator.generate_next_token()
        if not generator.is_done():
            pieces.append(stream.decode(int(generator.get_next_tokens()[0])))
            sys.stdout.write(pieces[-1])
            sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(pieces)


def main() -> None:
    """Ask the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", help="one message, whose answer is printed")
    asked = parser.parse_args().ask
    model = genai.Model(str(Path(__file__).parent))
    tokenizer = genai.Tokenizer(model)
    messages: list[dict[str, str]] = []
    while message := asked or input("> "):
        messages.append({"role": "user", "content": message})
        messages.append({"role": "assistant", "content": answer(model, tokenizer, messages)})
        if asked:
            return


if __name__ == "__main__":
    main()
