"""`spec.adapters`: versions as LoRA adapters on one base, which all of them share."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from tunesmith_api.base import ApiModel

# What vLLM takes.
MaxRank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]


def max_rank_for(rank: int) -> int:
    """The smallest `--max-lora-rank` under which an adapter of that rank can be loaded."""
    return min(int(allowed) for allowed in get_args(MaxRank) if allowed >= rank)


class Adapters(ApiModel):
    """What vLLM keeps free for adapters when it starts."""

    max_loras: Annotated[int, Field(ge=1, le=32)] = Field(
        4,
        description="Adapters whose requests are computed together; vLLM's --max-loras. Those of "
        "more wait for each other.",
    )
    max_rank: MaxRank = Field(
        16,
        description="Largest rank of an adapter; vLLM's --max-lora-rank. A version with a larger "
        "one is not served.",
    )

    def command_line(self) -> list[str]:
        """As vLLM's server takes them."""
        given = {"max-loras": self.max_loras, "max-lora-rank": self.max_rank}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return ["--enable-lora", *words]
