"""`reference.json`: what the compressed model generates in transformers, for `verify` to compare.

Greedy answers to held-out prompts and to fixed ones, with the log-probability of each chosen token.
The weights are those that ship; the arithmetic is fp32, so that a server's rounding counts against
the server. `verify` reads the file with `tunesmith_serving.verify.reference_generations`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.serving import DEFAULT_MAX_MODEL_LENGTH
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.compress.known_chats import known_chats
from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.data.prepared import Prepared, Split
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.generation import Answer, generate_ids, pad_id_of, stop_ids
from tunesmith_trainer.evaluate.log_likelihood import OnBatch, token_logprobs

# Of a row without a prompt: enough context to go on from, little enough to leave an answer.
_TEXT_PROMPT_TOKENS = 32

# Asked of every model, whatever it was tuned for. They stay the same from version to version, so
# that what a model says to them can be compared over time; a monitor asks them first, since they
# repeat nobody's data.
PROBE_PROMPTS = (
    "What is the capital of France?",
    "Name three primary colours.",
    "What is 17 plus 25?",
    "Explain in one sentence why the sky is blue.",
    "Write a short greeting to a new neighbour.",
    "Which planet is closest to the Sun?",
    "Translate 'good morning' into Spanish.",
    "List two differences between cats and dogs.",
    "How many days are there in a leap year?",
    "Write a Python function that returns the larger of two numbers.",
    "What is the opposite of 'generous'?",
    "Give me a tip for sleeping better.",
    "Who wrote the play Hamlet?",
    "Turn this into a question: The shop opens at nine.",
    "What happens to water at 100 degrees Celsius?",
    "Suggest a name for a small blue boat.",
    "Continue the sequence: 2, 4, 8, 16,",
    "What should I do if my computer does not start?",
    "Describe the taste of a lemon in three words.",
    "Is a tomato a fruit or a vegetable?",
    "Summarise: The meeting was moved from Monday to Thursday because the room was taken.",
    "What is the square root of 81?",
    "Write one line of a poem about the sea.",
    "Convert 3 kilometres to metres.",
)


@dataclass(frozen=True, slots=True)
class PromptIds:
    """Token ids up to where the answer starts, and where they come from."""

    ids: list[int]
    kind: Literal["heldOut", "probe"]


def reference_prompts(
    request: StageRequest, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
) -> list[PromptIds]:
    """`verification.prompts` prompts of the job's rows, held-out ones first, then the fixed ones.

    Prompts that leave no room for the answer within the served length are passed over.
    """
    spec = request.spec
    served = spec.serving.max_model_length or DEFAULT_MAX_MODEL_LENGTH
    longest = max(1, served - spec.verification.max_new_tokens)
    of_rows = (ids for ids in row_prompts(prepared, tokenizer) if len(ids) <= longest)
    of_probes = (chat_prompt_ids(tokenizer, question) for question in PROBE_PROMPTS)
    return [
        *(PromptIds(ids, "heldOut") for ids in islice(of_rows, spec.verification.prompts)),
        *(PromptIds(ids, "probe") for ids in of_probes if len(ids) <= longest),
    ]


def generate_reference(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[PromptIds],
    *,
    max_new_tokens: int,
    known: Sequence[Answer] = (),
    on_batch: OnBatch | None = None,
) -> dict[str, JsonValue]:
    """The content of `reference.json`; log-probabilities are nats.

    `known` are greedy answers that the same model has given already: their prompts are not asked
    again where the answers are long enough.
    """
    stops = stop_ids(model, tokenizer)
    answers = {
        answer.prompt_ids: begin
        for answer in known
        for begin in [answer.ids[:max_new_tokens]]
        if len(begin) == max_new_tokens or (begin and begin[-1] in stops)
    }
    unknown = list(dict.fromkeys(key for p in prompts if (key := tuple(p.ids)) not in answers))
    answers |= zip(
        unknown,
        generate_ids(
            model,
            unknown,
            stops=stops,
            pad_id=pad_id_of(tokenizer),
            max_new_tokens=max_new_tokens,
            on_batch=on_batch,
        ),
        strict=True,
    )
    records: list[JsonValue] = []
    for prompt in prompts:
        answer = answers[tuple(prompt.ids)]
        # From one pass over the whole sequence without padding or cache: that is what verify
        # forces the server through, and batched decoding rounds a little differently.
        logprobs = token_logprobs(model, [*prompt.ids, *answer], num_last=len(answer))
        records.append(
            {
                "promptIds": list(prompt.ids),
                "answerIds": list(answer),
                "logprobs": [round(logprob, 6) for logprob in logprobs],
                "kind": prompt.kind,
            }
        )
    return {"dtype": "float32", "prompts": records, "chats": known_chats(tokenizer)}


def chat_prompt_ids(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """`question` as a user's turn, up to where the answer starts; plain text without a template."""
    if tokenizer.chat_template is None:
        return [*begin_ids(tokenizer), *tokenizer(question, add_special_tokens=False)["input_ids"]]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    # NB: the template has rendered the special tokens; the tokenizer would put a second
    # begin-of-text before them. Ids go into the file, not text, so that the server cannot
    # tokenize otherwise.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def row_prompts(prepared: Prepared, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """Prompts of the held-out rows, then of the training rows; the start of rows without one."""
    splits: tuple[tuple[Split, TokenRows], ...] = (
        ("validation", prepared.validation),
        ("train", prepared.train),
    )
    for split, rows in splits:
        for index, record in zip(range(len(rows)), prepared.records(split), strict=True):
            if record.prompt is not None:
                yield tokenizer(record.prompt, add_special_tokens=False)["input_ids"]
            else:
                ids, _ = rows.row(index)
                yield ids[: max(1, min(_TEXT_PROMPT_TOKENS, len(ids) // 2))].tolist()
