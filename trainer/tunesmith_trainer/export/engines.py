"""The engines that run formats on devices, as far as a comparison needs them; neither needs torch.

Greedy tokens are chosen here, from an engine's logits: engines end an answer each in its own way,
and a comparison goes on.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


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
