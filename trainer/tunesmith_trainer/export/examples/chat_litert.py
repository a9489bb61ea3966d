"""Chat with model.litertlm, on this machine's processor, through LiteRT-LM.

Needs `pip install litert-lm-api`. Without --ask it asks for one message after another; an empty one
ends it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import litert_lm


def main() -> None:
    """Ask the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", help="one message, whose answer is printed")
    asked = parser.parse_args().ask
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    model = str(Path(__file__).parent / "model.litertlm")
    greedy = litert_lm.SamplerConfig(top_k=1)
    with (
        tempfile.TemporaryDirectory() as cache,
        litert_lm.Engine(model, cache_dir=cache) as engine,
        engine.create_conversation(sampler_config=greedy) as conversation,
    ):
        while message := asked or input("> "):
            for piece in conversation.send_message_async(message, max_output_tokens=256):
                sys.stdout.write(str(piece.contents))
                sys.stdout.flush()
            sys.stdout.write("\n")
            if asked:
                return


if __name__ == "__main__":
    main()
