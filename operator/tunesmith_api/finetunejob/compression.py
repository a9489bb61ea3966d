"""`spec.compression`: how the model is made smaller, and how much of its quality must survive."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater, PlannedDefault
from tunesmith_api.finetunejob.prune import Prune
from tunesmith_api.rules import Rule

SchemeName = Literal["none", "W8A8", "W8A16", "W4A16", "FP8"]
Algorithm = Literal["gptq", "awq", "autoRound", "rtn"]
DEFAULT_ALGORITHM: Final[Algorithm] = "gptq"

# The tuned model's loss divided by the compressed one's; the smaller of the two suites counts.
# "none" has a bound, too: merging the adapters into bf16 rounds (docs/log.md).
DEFAULT_MIN_RECOVERY: Final[Mapping[SchemeName, float]] = {
    "none": 0.99,
    "W8A8": 0.99,
    "W8A16": 0.99,
    "FP8": 0.99,
    "W4A16": 0.97,
}


class Quantize(ApiModel):
    """Quantization of the merged model."""

    scheme: SchemeName = Field(
        "W8A8",
        description="W8A8: int8 weights and activations. W4A16: 4-bit weights. W8A16 (int8 "
        "weights) and FP8: GPU only, untested. none: bf16.",
    )
    algorithm: Annotated[
        Algorithm | None,
        DecidedLater(DEFAULT_ALGORITHM, applies=lambda quantize: quantize.scheme == "W4A16"),
    ] = Field(
        None,
        description="How W4A16 rounds. gptq: column by column, each making up for those before "
        "(Frantar et al. 2022). awq: after scaling up the channels that see large activations (Lin "
        "et al. 2023). autoRound: the way that gradients find (Cheng et al. 2023), many times as "
        f"long. rtn: to nearest, without calibration. Default: {DEFAULT_ALGORITHM}.",
    )
    keep_layers: Annotated[int, Field(ge=0, le=1024)] = Field(
        0,
        description="Mixed precision: so many decoder layers stay bf16, those whose rounding alone "
        "moves the model's answers most (KL divergence a token).",
    )
    group_size: Annotated[
        Literal[32, 64, 128] | None,
        DecidedLater(
            "the largest that divides the layers",
            applies=lambda quantize: quantize.scheme == "W4A16",
        ),
    ] = Field(
        None,
        description="Columns that share a W4A16 scale. Default: the largest that divides "
        "the layers.",
    )
    calibration_rows: Annotated[int, Field(ge=1, le=4096)] = 128


class CompressionGate(ApiModel):
    """How much of the tuned model's quality must survive."""

    min_recovery: Annotated[
        Annotated[float, Field(gt=0.0, le=1.0)] | None,
        PlannedDefault(),
    ] = Field(
        None,
        description=f"Default: {DEFAULT_MIN_RECOVERY['W8A8']} for 8 bit, "
        f"{DEFAULT_MIN_RECOVERY['W4A16']} for 4 bit.",
    )
    max_kl: Annotated[
        Annotated[float, Field(gt=0.0, le=100.0)] | None,
        DecidedLater("not measured"),
    ] = Field(
        None,
        description="Largest KL divergence of the compressed model from the tuned one, in nats a "
        "target token of the held-out rows. Default: not measured.",
    )
    fallback: Literal["widen", "fail"] = Field(
        "widen", description="After a failed gate: try the next wider scheme, or fail the job."
    )

    def with_defaults(self, *, scheme: SchemeName) -> Self:
        """With `min_recovery` filled in for the scheme that is asked for.

        NB: after a fallback the wider scheme has a bound of its own, unless another was given.
        """
        if self.min_recovery is not None:
            return self
        return self.model_copy(update={"min_recovery": DEFAULT_MIN_RECOVERY[scheme]})


class Ladder(ApiModel):
    """The smallest model that keeps the bounds is published.

    `prune.ratio` and `quantize.scheme` are the first candidates, these come behind them. First the
    ratios: of the first that keeps `prune.gate` the model goes on. Then every scheme is measured
    with it, and the smallest that keeps `gate` ships.
    """

    ratios: Annotated[list[Annotated[float, Field(gt=0.0, lt=1.0)]], Field(max_length=4)] = Field(
        default_factory=list,
        description="Smaller parts that go, tried where those before were refused; each takes a "
        "recovery of its own.",
    )
    schemes: Annotated[list[SchemeName], Field(max_length=4)] = Field(
        default_factory=list, description="Schemes that are measured beside `quantize.scheme`."
    )


class Compression(ApiModel):
    """Merge the adapters, prune if asked for, quantize, and prove that little was lost."""

    prune: Annotated[Prune | None, DecidedLater("nothing is pruned")] = Field(
        None,
        description="Make the model smaller before it is quantized; `prune: {}` has every default. "
        "Default: nothing is pruned.",
    )
    quantize: Quantize = Quantize()
    gate: CompressionGate = CompressionGate()
    ladder: Annotated[Ladder | None, DecidedLater("nothing else is tried")] = Field(
        None,
        description="More candidates; the smallest that keeps the bounds is published. Default: "
        "nothing else is tried.",
    )

    @property
    def measures_divergence(self) -> bool:
        """Whether something is bounded or chosen by the KL divergence from the tuned model."""
        is_bounded = self.gate.max_kl is not None or self.quantize.keep_layers > 0
        return is_bounded or self.ladder is not None

    @property
    def schemes(self) -> tuple[SchemeName, ...]:
        """Those that are asked for, in order."""
        return (self.quantize.scheme, *(self.ladder.schemes if self.ladder else ()))

    def with_defaults(self) -> Self:
        """With the gate's bound and what pruning leaves open filled in."""
        gate = self.gate.with_defaults(scheme=self.quantize.scheme)
        prune = self.prune.with_defaults() if self.prune else None
        return self.model_copy(update={"gate": gate, "prune": prune})


def _descends(compression: Compression) -> bool:
    ladder, prune = compression.ladder, compression.prune
    if ladder is None or not ladder.ratios:
        return True
    if prune is None or prune.ratio is None:
        return False
    ratios = [prune.ratio, *ladder.ratios]
    return all(later < earlier for earlier, later in pairwise(ratios))


LADDER_RULES: Final[tuple[Rule[Compression], ...]] = (
    Rule(
        name="ladder-has-candidates",
        scopes=("compression",),
        field="ladder",
        holds=lambda compression: (
            compression.ladder is None
            or bool(compression.ladder.ratios or compression.ladder.schemes)
        ),
        cel="!has(self.ladder) || size(self.ladder.ratios) > 0 || size(self.ladder.schemes) > 0",
        message="a ladder has ratios, schemes or both; give some, or leave it out",
    ),
    Rule(
        name="ladder-schemes-once",
        scopes=("compression",),
        field="ladder.schemes",
        holds=lambda compression: len(set(compression.schemes)) == len(compression.schemes),
        cel="!has(self.ladder) || (self.ladder.schemes.all(scheme, scheme != self.quantize.scheme "
        "&& self.ladder.schemes.exists_one(other, other == scheme)))",
        message="each scheme is measured once; name those beside quantize.scheme, each once",
    ),
    Rule(
        name="ladder-ratios-descend",
        scopes=("compression",),
        field="ladder.ratios",
        holds=_descends,
        cel="!has(self.ladder) || size(self.ladder.ratios) == 0 || (has(self.prune) && "
        "has(self.prune.ratio) && self.ladder.ratios[0] < self.prune.ratio && "
        "(size(self.ladder.ratios) < 2 || self.ladder.ratios[1] < self.ladder.ratios[0]) && "
        "(size(self.ladder.ratios) < 3 || self.ladder.ratios[2] < self.ladder.ratios[1]) && "
        "(size(self.ladder.ratios) < 4 || self.ladder.ratios[3] < self.ladder.ratios[2]))",
        message="ratios come behind that of prune, and each takes less than the one before; give "
        "prune.ratio and begin below it, or leave them out",
    ),
)


RULES: Final[tuple[Rule[Quantize], ...]] = (
    Rule(
        name="group-size-of-four-bit",
        scopes=("compression.quantize",),
        field="groupSize",
        holds=lambda quantize: quantize.group_size is None or quantize.scheme == "W4A16",
        cel="!has(self.groupSize) || self.scheme == 'W4A16'",
        message="only W4A16 has groups; leave groupSize out, or set scheme: W4A16",
    ),
    Rule(
        name="algorithm-of-four-bit",
        scopes=("compression.quantize",),
        field="algorithm",
        holds=lambda quantize: quantize.algorithm is None or quantize.scheme == "W4A16",
        cel="!has(self.algorithm) || self.scheme == 'W4A16'",
        message="only W4A16 rounds by one of several; leave algorithm out, or set scheme: W4A16",
    ),
    Rule(
        name="layers-kept-of-quantized",
        scopes=("compression.quantize",),
        field="keepLayers",
        holds=lambda quantize: not quantize.keep_layers or quantize.scheme != "none",
        cel="self.keepLayers == 0 || self.scheme != 'none'",
        message="none keeps all layers in bf16; leave keepLayers out, or choose a scheme",
    ),
)
