"""`python -m tunesmith_trainer.export.litert_writer MODEL FOLDER PRECISION ROOM`: write LiteRT.

A process of its own, for what litert-torch holds in memory while it converts. It packs what comes
of that into `FOLDER/model.litertlm` for LiteRT-LM, which has no way to take a chat template as it
is.
"""

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.evaluate.generation import stop_ids_of
from tunesmith_trainer.export.engines import LITERT_CHUNK, LITERT_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# By litert-torch's names. Of int8 the activations are rounded, too: weights alone in eight bits are
# widened when a file is loaded, and take the memory and time of fp32.
_RECIPES: Final = {"fp32": "", "int8": "dynamic_wi8_afp32"}
# LiteRT-LM hands a template the parts of a message, where templates expect its text, and knows
# neither of the tokens that they may write.
_AS_TEXT: Final = """\
{%%- set bos_token = %(bos)s -%%}{%%- set eos_token = %(eos)s -%%}
{%%- set as_text = namespace(messages=[]) -%%}
{%%- for message in messages -%%}
{%%- set content = message['content'] -%%}
{%%- set text = content if content is string else (content | map(attribute='text') | join('')) -%%}
{%%- set as_text.messages = as_text.messages + [{'role': message['role'], 'content': text}] -%%}
{%%- endfor -%%}
{%%- set messages = as_text.messages -%%}
"""
# Marks of what is trained on, which transformers takes out.
_GENERATION: Final = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
# Of a model that has none, and in front where its tokenizer begins texts so.
_BEGIN: Final = "{{ bos_token }}"
_PLAIN: Final = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_litert(source: Path, folder: Path, *, precision: str, room: int) -> None:
    """Convert the fp32 model in `source`; `room` are the tokens of its cache."""
    from litert_torch.generative.export_hf.export import export
    from transformers import AutoTokenizer

    metadata = metadata_of(AutoTokenizer.from_pretrained(source), source, room=room)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as converted:
        export(
            str(source),
            converted,
            prefill_lengths=[LITERT_CHUNK],
            cache_length=room,
            quantization_recipe=_RECIPES[precision],
            bundle_litert_lm=False,
            keep_temporary_files=True,
        )
        graph = "model_quantized.tflite" if _RECIPES[precision] else "model.tflite"
        _pack(Path(converted), graph, metadata, folder / LITERT_FILE)


def metadata_of(tokenizer: "PreTrainedTokenizerBase", source: Path, *, room: int) -> Any:
    """What LiteRT-LM has to know: how to render a conversation, and where an answer ends."""
    from litert_lm_builder.runtime.proto import llm_metadata_pb2, llm_model_type_pb2
    from transformers import GenerationConfig

    metadata = llm_metadata_pb2.LlmMetadata(
        max_num_tokens=room,
        # Not by architecture: those types come with channels and tools of their own.
        llm_model_type=llm_model_type_pb2.LlmModelType(
            generic_model=llm_model_type_pb2.GenericModel()
        ),
        jinja_prompt_template=template_of(tokenizer),
    )
    for token in stop_ids_of(GenerationConfig.from_pretrained(source), tokenizer):
        metadata.stop_tokens.add().token_ids.ids.append(token)
    return metadata


def template_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The chat template as LiteRT-LM can apply it: to the same text as transformers does."""
    special = {"bos": tokenizer.bos_token or "", "eos": tokenizer.eos_token or ""}
    head = _AS_TEXT % {
        name: json.dumps(token, ensure_ascii=False) for name, token in special.items()
    }
    if tokenizer.chat_template is None:
        return head + (_BEGIN if begin_ids(tokenizer) else "") + _PLAIN
    return head + _GENERATION.sub("", tokenizer.get_chat_template())


def _pack(converted: Path, graph: str, metadata: Any, target: Path) -> None:
    import litert_lm_builder as litert
    from litert_lm_builder import litertlm_builder

    # NB: it puts a time and a random name into the file: the same model would be another artifact.
    litertlm_builder.populate_system_metadata = list
    (converted / "metadata.pb").write_bytes(metadata.SerializeToString(deterministic=True))
    builder = litert.LitertLmFileBuilder()
    builder.add_llm_metadata(str(converted / "metadata.pb"))
    builder.add_hf_tokenizer(str(converted / "tokenizer.json"))
    builder.add_tflite_model(str(converted / graph), litert.TfLiteModelType.PREFILL_DECODE)
    with target.open("wb") as file:
        builder.build(file)


def main(argv: Sequence[str]) -> None:
    """Write what the arguments ask for."""
    source, folder, precision, room = argv
    write_litert(Path(source), Path(folder), precision=precision, room=int(room))


if __name__ == "__main__":
    main(sys.argv[1:])
