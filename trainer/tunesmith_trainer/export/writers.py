"""One folder per format: the weights, an example that runs them, and a README."""

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunesmith_api.finetunejob.export import ExportFormat
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.export.gguf_writer import write_gguf
from tunesmith_trainer.export.processes import ProcessFailedError, run_python

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EXAMPLE: Final = "chat.py"
GGUF_FILE: Final = "model.gguf"

# NB: in half precision the builder's graph for processors fails at its second token (onnxruntime
# 1.32, "Shape mismatch attempting to re-use buffer"); that for GPUs runs on processors as well.
_TARGETS: Final = {"fp16": "cuda"}
# Head, first and last layers keep eight bits, as llama.cpp's mixtures have it: on a model of 135
# million parameters all in four bits loses 0.33 nats, this one 0.13 at 1.3 times the size.
_ALGORITHMS: Final = {"int4": "k_quant_mixed"}

_README: Final = """# {model}: {name}

{what}

```console
$ pip install {package}
$ python chat.py --ask "Hello"
$ python chat.py
```

`chat.py` needs no server and no network. {limits}

What was measured of it stands in `exports.json` of the version, and in `model-version.yaml` with
speed and memory.
"""
_WHAT: Final = {
    "onnx": "An ONNX graph for onnxruntime-genai, with tokenizer and chat template.",
    "gguf": "A GGUF file, `model.gguf`, for llama.cpp and what is built on it (Ollama, LM Studio): "
    "weights, tokenizer and chat template in one.",
    "litert": "A file for LiteRT-LM, `model.litertlm`: a TensorFlow Lite graph, tokenizer and chat "
    "template in one.",
}
_PACKAGES: Final = {
    "onnx": "onnxruntime-genai",
    "gguf": "cyllama==0.2.18",
    "litert": "litert-lm-api",
}
_LIMITS: Final = {
    "onnx": "It was measured on a processor; another provider is named in `genai_config.json`. "
    "Adapters cannot be added to it.",
    "gguf": "Four-bit K-quants (Q4_K_M) are not written here: `llama-quantize` of llama.cpp makes "
    "them of the F16 file.",
    "litert": "A conversation has room for as many tokens as the job's `export.contextLength` "
    "says; the cache is that large from the begin. Adapters cannot be added to it.",
}


def example_of(format_name: str) -> bytes:
    """The program that is put beside the weights of that format."""
    folder = resources.files("tunesmith_trainer.export.examples")
    return folder.joinpath(f"chat_{format_name}.py").read_bytes()


def write_beside(folder: Path, wanted: ExportFormat, *, model: str) -> None:
    """Put example and README into the folder of a format."""
    (folder / EXAMPLE).write_bytes(example_of(wanted.format))
    text = _README.format(
        model=model,
        name=f"{wanted.format} {wanted.precision}",
        what=_WHAT[wanted.format],
        package=_PACKAGES[wanted.format],
        limits=_LIMITS[wanted.format],
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def write_gguf_folder(
    model: "PreTrainedModel",
    folder: Path,
    *,
    wanted: ExportFormat,
    tokenizer: "PreTrainedTokenizerBase",
    name: str,
) -> None:
    """Write `model` as GGUF.

    Raises:
        BadInputError: llama.cpp does not know the model.
        OSError: the disk is full.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_gguf(
        model, folder / GGUF_FILE, tokenizer=tokenizer, precision=wanted.precision, name=name
    )


def build_onnx_folder(source: Path, folder: Path, *, wanted: ExportFormat) -> None:
    """Build the ONNX graph of the fp32 model in `source` with onnxruntime-genai's builder.

    Raises:
        BadInputError: the builder does not know the model.
        OSError: the disk is full.
    """
    shutil.rmtree(folder, ignore_errors=True)
    cache = folder.with_name(f".{folder.name}.cache")
    arguments = ["-m", "onnxruntime_genai.models.builder"]
    arguments += ["-i", str(source), "-o", str(folder), "-p", wanted.precision]
    arguments += ["-e", _TARGETS.get(wanted.precision, "cpu"), "-c", str(cache)]
    arguments += ["--extra_options", "hf_token=false"]
    if wanted.precision in _ALGORITHMS:
        arguments.append(f"algo_config={_ALGORITHMS[wanted.precision]}")
    try:
        _build(arguments, wanted, writer="onnxruntime-genai's builder", source=source)
        _let_run_anywhere(folder / "genai_config.json")
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def build_litert_folder(source: Path, folder: Path, *, wanted: ExportFormat, room: int) -> None:
    """Convert the fp32 model in `source` by litert-torch, with a cache for `room` tokens.

    Raises:
        BadInputError: litert-torch cannot convert the model.
        OSError: the disk is full.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    arguments = ["-m", "tunesmith_trainer.export.litert_writer"]
    arguments += [str(source), str(folder), wanted.precision, str(room)]
    _build(arguments, wanted, writer="litert-torch", source=source)


def _build(arguments: list[str], wanted: ExportFormat, *, writer: str, source: Path) -> None:
    try:
        run_python(arguments, cwd=source.parent)
    except ProcessFailedError as error:
        if error.was_killed:
            raise
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.export.formats: {writer} cannot write this model as {wanted.precision}: "
            f"{error}; leave {wanted.format} out, or choose gguf",
        ) from error


def _let_run_anywhere(settings: Path) -> None:
    """Have the graph run on the processor, unless who loads it names another provider."""
    config = json.loads(settings.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["provider_options"] = []
    settings.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
