"""Small models for tests, from the shape alone to weights that can be trained.

- `SMOL`: the size and shape of SmolLM2-135M, for estimates; no files.
- `write_model`: a folder with a few bytes in place of weights, for what only reads headers.
- `small_model`: two layers of random weights in memory, for the training loop.
- `make_tiny_model`: a random Llama on disk with a real tokenizer and a chat template, for stages.

Nothing here needs torch until a model with weights is made.
"""

import json
import struct
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

from tunesmith_engine.sources.model_facts import ModelFacts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SMOL = ModelFacts(
    num_parameters=134_515_008,
    num_layers=30,
    hidden_size=576,
    intermediate_size=1536,
    num_heads=9,
    num_kv_heads=3,
    vocab_size=49_152,
    context_length=8192,
    is_tied=True,
    has_chat_template=True,
)

# Of `small_model` and of `make_tiny_model`.
SMALL_VOCABULARY = 97
TINY_VOCABULARY = 384

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 512

# SmolLM2's: it carries no generation marks, and puts a system turn in front.
CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = (
    "My printer does not print. Turn it off, wait ten seconds and turn it on again.",
    "The screen of my laptop is black. Try an external monitor, then restart the laptop.",
    "I forgot my password. Use the password reset page or ask your administrator.",
    "system user assistant You are a helpful assistant.",
)


def as_told(facts: ModelFacts) -> dict[str, Any]:
    """The facts as prepare reports them."""
    return {to_camel(name): value for name, value in asdict(facts).items()}


def write_model(folder: Path, **config: Any) -> Path:
    """A folder that looks like a small Llama."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = {
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 32,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**shape, **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (folder / "model.safetensors").write_bytes(safetensors({"embed": [32, 8], "norm": [8]}))
    return folder


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    """A file with fp32 zeros of these shapes."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def small_model(*, seed: int = 0, hidden_size: int = 16) -> Any:
    """Two random Llama layers with tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=SMALL_VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def make_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write model and tokenizer into `folder` and return it; the same seed gives the same bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=TINY_VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


def three_layers(folder: Path) -> Path:
    """A model as `make_tiny_model` writes it, with layers and heads of keys that can go."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=TINY_VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, initializer_range=0.1,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_tiny_tokenizer(*, chat_template: str | None = CHATML) -> "PreTrainedTokenizerBase":
    """A byte-level BPE tokenizer that ends turns with <|im_end|>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.chat_template = chat_template
    return tokenizer
