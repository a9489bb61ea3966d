"""The engines that run formats on devices, as far as a comparison needs them; neither needs torch.

Greedy tokens are chosen here, from an engine's logits: engines end an answer each in its own way,
and a comparison goes on.
"""

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

LITERT_FILE: Final = "model.litertlm"
# So many tokens of a prompt go through the graph at once.
LITERT_CHUNK: Final = 128
_PREFILL: Final = f"prefill_{LITERT_CHUNK}"
_DECODE: Final = "decode"
# Added to the score of a place that a token may not see.
_HIDDEN: Final = -1e9


class Engine(Protocol):
    """A loaded model, which has one conversation at a time."""

    def make_room(self, num_tokens: int) -> None:
        """Be ready for conversations of so many tokens, prompts and answers."""

    def tokenize(self, text: str) -> list[int]:
        """The tokens of a text that has its special tokens written out."""

    def start(self, ids: Sequence[int]) -> int:
        """Begin anew with these tokens; the likeliest next one."""

    def go_on(self, token: int) -> int:
        """The likeliest token behind this one."""

    def loss(self, ids: Sequence[int], targets: Sequence[int]) -> float:
        """Nats, summed over the tokens at the places `targets`."""


class OnnxEngine:
    """A folder of onnxruntime-genai, which makes room anew for each conversation."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        import onnxruntime_genai as genai

        self._genai = genai
        session = {"session_options": {"intra_op_num_threads": threads}}
        config = genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self._model = genai.Model(config)
        self._tokenizer = genai.Tokenizer(self._model)
        self._generator: Any = None
        self._room = 0

    def make_room(self, num_tokens: int) -> None:
        self._room = num_tokens

    def tokenize(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]

    def start(self, ids: Sequence[int]) -> int:
        settings = self._genai.GeneratorParams(self._model)
        settings.set_search_options(do_sample=False, max_length=self._room)
        self._generator = self._genai.Generator(self._model, settings)
        self._generator.append_tokens(np.array(ids, dtype=np.int32))
        return _best(self._generator.get_logits())

    def go_on(self, token: int) -> int:
        self._generator.append_tokens(np.array([token], dtype=np.int32))
        return _best(self._generator.get_logits())

    def loss(self, ids: Sequence[int], targets: Sequence[int]) -> float:
        self.start(ids)
        logits = self._generator.get_output("logits")[0]
        # Shifted by one: a target is predicted at the place before.
        rows = logits[[place - 1 for place in targets]]
        return _nats(rows, [ids[place] for place in targets])


class GgufEngine:
    """`model.gguf` in llama.cpp."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        from cyllama.llama import llama_cpp

        self._llama, self._threads = llama_cpp, threads
        llama_cpp.disable_logging()
        llama_cpp.ggml_backend_load_all()
        settings = llama_cpp.LlamaModelParams()
        settings.n_gpu_layers = 0
        # NB: cyllama 0.2.18 asks its model for `n_vocab` when it hands out logits, and its model
        # has none.
        kind = type("Model", (llama_cpp.LlamaModel,), {"n_vocab": property(_vocab_size)})
        self._model = kind(str(folder / "model.gguf"), settings)

    def tokenize(self, text: str) -> list[int]:
        # No begin of its own; special tokens are known where they are written out.
        tokens: list[int] = self._model.get_vocab().tokenize(
            text, add_special=False, parse_special=True
        )
        return tokens

    def make_room(self, num_tokens: int) -> None:
        settings = self._llama.LlamaContextParams()
        settings.n_ctx = settings.n_batch = num_tokens
        settings.n_threads = settings.n_threads_batch = self._threads
        self._context = self._llama.LlamaContext(self._model, settings)
        self._batch = self._llama.LlamaBatch(n_tokens=settings.n_batch, embd=0, n_seq_max=1)
        self._length = 0

    def start(self, ids: Sequence[int]) -> int:
        self._clear()
        return _best(self._decode(ids, wanted=[len(ids) - 1])[0])

    def go_on(self, token: int) -> int:
        return _best(self._decode([token], wanted=[0])[0])

    def loss(self, ids: Sequence[int], targets: Sequence[int]) -> float:
        self._clear()
        rows = self._decode(ids, wanted=[place - 1 for place in targets])
        return _nats(rows, [ids[place] for place in targets])

    def _clear(self) -> None:
        self._context.kv_cache_clear()
        self._length = 0

    def _decode(self, ids: Sequence[int], *, wanted: Sequence[int]) -> NDArray[np.float32]:
        """Logits behind the tokens at the places `wanted`."""
        self._batch.clear()
        asked = set(wanted)
        for place, token in enumerate(ids):
            self._batch.add(token, self._length + place, [0], place in asked)
        self._context.decode(self._batch)
        self._length += len(ids)
        return np.array([self._context.get_logits_ith(place) for place in wanted], dtype=np.float32)


class LitertEngine:
    """`model.litertlm` in LiteRT, whose cache has room for as many tokens as the file says.

    LiteRT-LM, which runs such files on devices, hands out text alone. So tokens and losses come of
    the graph in the file, by LiteRT's CompiledModel, and LiteRT-LM tokenizes.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        from ai_edge_litert import compiled_model as litert

        self._file = folder / LITERT_FILE
        # Else each of the two signatures holds its own packed copy of the weights.
        cpu = litert.CpuOptions(num_threads=threads, xnnpack_weight_cache_path=":memory")
        options = litert.Options(litert.HardwareAccelerator.CPU, cpu_options=cpu)
        # Mapped while it is loaded, so its name may go then.
        with tempfile.NamedTemporaryFile(dir=folder.parent, prefix=".", suffix=".tflite") as graph:
            _copy_graph(self._file, graph)
            self._model = litert.CompiledModel.from_file(graph.name, options=options)
        shapes = self._model.get_input_tensor_details(_DECODE)
        self._room = int(shapes["mask"]["shape"][-1])
        # A run reads one and writes the other, which the next run reads: nothing is copied.
        self._cache, self._spare = self._empty_cache(shapes), self._empty_cache(shapes)
        self._logits = self._model.create_output_buffer_by_name(_DECODE, "logits")
        scored = self._model.get_output_tensor_details(_DECODE)["logits"]
        self._vocab_size = int(scored["shape"][-1])
        self._inputs = {name: self._buffers(name) for name in (_PREFILL, _DECODE)}
        self._length = 0

    def make_room(self, num_tokens: int) -> None:
        if num_tokens > self._room:
            raise ValueError(f"{num_tokens} tokens are asked for, and the file has {self._room}")

    def tokenize(self, text: str) -> list[int]:
        tokens: list[int] = self._lm.tokenize(text)
        return tokens

    def start(self, ids: Sequence[int]) -> int:
        self._read(ids[:-1])
        return self.go_on(ids[-1])

    def go_on(self, token: int) -> int:
        return _best(self._behind(token))

    def loss(self, ids: Sequence[int], targets: Sequence[int]) -> float:
        if not targets:
            return 0.0
        self._read(ids[: targets[0] - 1])
        behind = {place: self._behind(ids[place - 1]) for place in range(targets[0], len(ids))}
        return _nats(np.stack([behind[place] for place in targets]), [ids[at] for at in targets])

    @cached_property
    def _lm(self) -> Any:
        import litert_lm

        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        # Else it leaves its packed weights beside the file, in what is an artifact.
        self._packed = tempfile.TemporaryDirectory(dir=self._file.parents[1], prefix=".")
        return litert_lm.Engine(str(self._file), cache_dir=self._packed.name)

    def _read(self, ids: Sequence[int]) -> None:
        """Begin anew with these tokens. The graph for many of them hands out no logits."""
        self._length = 0
        for begin in range(0, len(ids), LITERT_CHUNK):
            self._run(_PREFILL, ids[begin : begin + LITERT_CHUNK], width=LITERT_CHUNK, outputs={})

    def _behind(self, token: int) -> NDArray[np.float32]:
        """The logits behind one token more."""
        self._run(_DECODE, [token], width=1, outputs={"logits": self._logits})
        logits: NDArray[np.float32] = self._logits.read(self._vocab_size, np.float32)
        return logits

    def _run(
        self, signature: str, ids: Sequence[int], *, width: int, outputs: Mapping[str, Any]
    ) -> None:
        # What fills the last chunk up lands behind the text, where nothing looks before it is
        # overwritten.
        places = np.arange(self._length, self._length + width, dtype=np.int32)
        tokens = np.zeros((1, width), np.int32)
        tokens[0, : len(ids)] = ids
        is_seen = np.arange(self._room) <= places[:, None]
        mask = np.where(is_seen, 0.0, _HIDDEN).astype(np.float32)[None, None]
        given = self._inputs[signature]
        for name, values in (("tokens", tokens), ("input_pos", places), ("mask", mask)):
            given[name].write(values)
        self._model.run_by_name(signature, {**given, **self._cache}, {**outputs, **self._spare})
        self._cache, self._spare = self._spare, self._cache
        self._length += len(ids)

    def _buffers(self, signature: str) -> dict[str, Any]:
        create = self._model.create_input_buffer_by_name
        return {name: create(signature, name) for name in ("tokens", "input_pos", "mask")}

    def _empty_cache(self, shapes: Mapping[str, Any]) -> dict[str, Any]:
        cache = {}
        for name in (name for name in shapes if name.startswith("kv_cache_")):
            cache[name] = self._model.create_input_buffer_by_name(_DECODE, name)
            # NB: memory as it comes may hold NaN, which no mask takes away.
            cache[name].write(np.zeros(shapes[name]["shape"], np.float32))
        return cache


def _copy_graph(file: Path, graph: IO[bytes]) -> None:
    """The TensorFlow Lite graph in a `.litertlm`."""
    from litert_lm_builder import litertlm_header_schema_py_generated as schema
    from litert_lm_builder.litertlm_peek import read_litertlm_header

    found = read_litertlm_header(str(file), io.StringIO()).SectionMetadata()
    sections = (found.Objects(place) for place in range(found.ObjectsLength()))
    wanted = schema.AnySectionDataType.TFLiteModel
    section = next(each for each in sections if each.DataType() == wanted)
    with file.open("rb") as source:
        source.seek(section.BeginOffset())
        left = section.EndOffset() - section.BeginOffset()
        while part := source.read(min(left, 1 << 24)):
            graph.write(part)
            left -= len(part)
    graph.flush()


def _vocab_size(model: Any) -> int:
    size: int = model.get_vocab().n_vocab
    return size


def _best(logits: Any) -> int:
    values = np.asarray(logits)
    return int(values.reshape(-1, values.shape[-1])[-1].argmax())


def _nats(logits: NDArray[Any], tokens: Sequence[int]) -> float:
    """Negative log-likelihood of a token in each row of logits, summed."""
    if not tokens:
        return 0.0
    rows = logits.astype(np.float64)
    highest = rows.max(axis=-1, keepdims=True)
    log_sums = np.log(np.exp(rows - highest).sum(axis=-1)) + highest[:, 0]
    return float((log_sums - rows[np.arange(len(tokens)), list(tokens)]).sum())
