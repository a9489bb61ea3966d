"""A GGUF file as a folder of bf16 safetensors with tokenizer and chat template, converted once.

`base_model` asks for it. The folder lies in the cache under the digest of the file; a record beside
it holds the digest of what was written, and a folder that does not match its record is made anew.
"""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.gguf_header import GgufHeader, read_gguf_header
from tunesmith_engine.stages.digests import digest_file, digest_tree
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.reporter import write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Raised whenever the same GGUF file would become other bytes: what older releases converted is then
# made anew.
CONVERSION: Final = 2


def converted_model(gguf: Path, *, cache: Path) -> Path:
    """The model folder of a GGUF file, from the cache or made now.

    Raises:
        BadInputError: transformers cannot read this architecture, or the weights are incomplete
            or not finite.
        OSError: the disk is full.
    """
    folder = cache / "models" / digest_file(gguf).removeprefix("sha256:")
    if not _is_whole(folder):
        # The cache is shared: another job may convert the same file now, in a folder of its own.
        part = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _convert(gguf, part)
            _put_in_place(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        record = json.loads(_record_of(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(record == {"conversion": CONVERSION, "tree": digest_tree(folder)})


def _put_in_place(part: Path, folder: Path) -> None:
    """Put the finished folder in its place, unless another job was faster."""
    if _is_whole(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    record = {"conversion": CONVERSION, "tree": digest_tree(part)}
    part.replace(folder)
    # NB: the record last. Cut off in between, the folder has none, or one that does not match it,
    # and is made anew; the other way round, half a model could be taken for a whole one.
    write_atomically(_record_of(folder), json.dumps(record))


def _record_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
        # fp32 first: the weights are de-quantized in it, and rounded to bf16 once, below.
        model, loading = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise _unreadable(gguf, f"transformers cannot read it ({error})") from error
    _refuse_incomplete(gguf, model, missing=sorted(loading["missing_keys"]))
    mend_begin(tokenizer, read_gguf_header(gguf))
    _mend_ends(model, tokenizer)
    # NB: both would make save_pretrained write a model that claims to be quantized still.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _refuse_incomplete(gguf: Path, model: "PreTrainedModel", *, missing: list[str]) -> None:
    import torch

    # transformers only warns of missing weights, and leaves them as they were drawn at random.
    if missing:
        raise _unreadable(gguf, f"it has no weights for {', '.join(missing[:5])}")
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise _unreadable(gguf, f"the weights of {name} are not finite")


def mend_begin(tokenizer: "PreTrainedTokenizerBase", header: GgufHeader) -> None:
    """Let the tokenizer put the begin token in front of texts exactly if the file says so.

    transformers reads the token, and not whether it is used: a Gemma then begins nothing with it,
    here and in the server that gets these files.
    """
    from tokenizers.processors import TemplateProcessing

    # llama.cpp's default where the file does not say: SentencePiece models have it.
    is_sentence_piece = header.fields.get("tokenizer.ggml.model") == "llama"
    says = header.fields.get("tokenizer.ggml.add_bos_token", is_sentence_piece)
    begin = tokenizer.bos_token if says else None
    single = f"{begin} $A" if begin else "$A"
    pair = f"{begin} $A {begin} $B" if begin else "$A $B"
    special = [(begin, tokenizer.bos_token_id)] if begin else []
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, pair=pair, special_tokens=special
    )


def _mend_ends(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Fill in the ids of end and padding that the file leaves open."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    for settings in (model.config, model.generation_config):
        if settings.eos_token_id is None:
            settings.eos_token_id = tokenizer.eos_token_id
        if settings.pad_token_id is None:
            settings.pad_token_id = tokenizer.pad_token_id


def _unreadable(gguf: Path, why: str) -> BadInputError:
    return BadInputError(
        Reason.INVALID_SPEC,
        f"spec.model.uri: given {gguf.name}; {why}; take another GGUF file, or the safetensors "
        "edition of the model",
    )
