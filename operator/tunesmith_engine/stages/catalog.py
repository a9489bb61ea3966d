"""Every stage that a job may go through: one row each, in the order in which they run.

All else about a stage derives from its row: the plan and the keys (`planning/`), phase, condition
and share of progress (`lifecycle/`), what its pod asks for (the operator), which process is started
(both executors) and which function that process calls (`entry.py`), the choices of `--until`, the
rows of the report, and what `publish` copies into a version. docs/task/extend.md has the
steps to add one.
"""

from typing import Final

from tunesmith_engine.drift.sketches import REFERENCE_FILE
from tunesmith_engine.sources.adapter_version import ADAPTER_FINGERPRINTS
from tunesmith_engine.stages import memory, training_memory
from tunesmith_engine.stages.contracts import Environment
from tunesmith_engine.stages.stage import Catalog, Compute, Published, Stage

# Where a training logs its curve, and the text by which it sees what the model forgets.
_OF_RUNS: Final = ("tracking", "evaluation.generalText")

PREPARE: Final = Stage(
    name="prepare",
    phase="Preparing",
    condition="DataReady",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.prepare.stage:prepare",
    weight=5.0,
    fields=(
        "model.uri",
        "model.revision",
        "model.chatTemplate",
        "dataset.train.uri",
        "dataset.validation.uri",
        "dataset.validationFraction",
        "dataset.format",
        "dataset.columns",
        "dataset.rationale",
        "dataset.highlights",
        "dataset.overlong",
        "dataset.maxBadRows",
        "dataset.cardRows",
        "dataset.cleaning",
        "dataset.split",
        "dataset.augmentation.ratio",
        "dataset.augmentation.turns",
        "dataset.augmentation.synonyms",
        "dataset.augmentation.backTranslation",
        "dataset.augmentation.paraphrase.endpoint.url",
        "dataset.augmentation.paraphrase.endpoint.model",
        "dataset.augmentation.paraphrase.endpoint.pricePerMillionTokens",
        "dataset.augmentation.paraphrase.maxNewTokens",
        "dataset.augmentation.paraphrase.minSimilarity",
        "dataset.augmentation.counterfactual",
        "dataset.augmentation.adversarial.attacks",
        "dataset.augmentation.adversarial.ratio",
        "dataset.augmentation.adversarial.typos",
        "dataset.augmentation.adversarial.instructions",
        "dataset.augmentation.adversarial.wordnet",
        "dataset.augmentation.adversarial.sensitive.uri",
        "dataset.augmentation.seed",
        "dataset.balance",
        "dataset.seed",
        "dataset.replay.source.uri",
        "dataset.replay.format",
        "dataset.replay.columns",
        "training.sequenceLength",
        # It also refuses rows that the objective cannot learn from.
        "training.objective",
        # And a teacher of another tokenizer.
        "training.distillation.teacher.model.uri",
        "training.distillation.teacher.model.revision",
        "training.distillation.teacher.model.chatTemplate",
    ),
    sources=(
        "model",
        "training.distillation.teacher.model",
        "dataset.train",
        "dataset.validation",
        "dataset.replay.source",
        "dataset.augmentation.adversarial.sensitive",
        "dataset.cleaning.contamination.against",
    ),
    # It also sees that what later stages need is there, before hours of work depend on it.
    secrets=(
        "model",
        "dataset.train",
        "dataset.validation",
        "dataset.cleaning",
        "dataset.augmentation",
        "dataset.replay",
        "evaluation",
        "tracking",
        "output",
    ),
    memory=memory.preparing,
    resumes=True,
    published=(Published("card", "data-card.json"), Published("reference", REFERENCE_FILE)),
)

SYNTHESIZE: Final = Stage(
    name="synthesize",
    phase="Synthesizing",
    condition="Synthesized",
    # For vLLM, which writes the rows unless an endpoint does.
    environment=Environment.SERVER,
    function="tunesmith_trainer.synthesize.stage:synthesize",
    weight=10.0,
    fields=(
        "dataset.synthesis.ratio",
        "dataset.synthesis.maxRows",
        "dataset.synthesis.methods",
        "dataset.synthesis.examples",
        "dataset.synthesis.generator.endpoint.url",
        "dataset.synthesis.generator.endpoint.model",
        "dataset.synthesis.generator.endpoint.pricePerMillionTokens",
        "dataset.synthesis.generator.model.uri",
        "dataset.synthesis.generator.model.revision",
        "dataset.synthesis.generator.model.chatTemplate",
        "dataset.synthesis.critic.minScore",
        "dataset.synthesis.critic.endpoint.url",
        "dataset.synthesis.critic.endpoint.model",
        "dataset.synthesis.critic.endpoint.pricePerMillionTokens",
        "dataset.synthesis.temperature",
        "dataset.synthesis.maxNewTokens",
        "dataset.synthesis.maxTokens",
        "dataset.synthesis.maxCost",
        "dataset.synthesis.maxMinutes",
        "dataset.synthesis.seed",
    ),
    reads=("prepare",),
    sources=("dataset.synthesis.generator.model",),
    compute=Compute.ACCELERATOR,
    # An endpoint may take hours, in which a GPU would wait.
    holds_accelerators=lambda spec: (
        spec.dataset.synthesis is None or spec.dataset.synthesis.runs_a_model
    ),
    secrets=("dataset.synthesis",),
    memory=memory.synthesizing,
    published=(Published("synthesis", "synthesis.json", is_optional=True),),
    applies=lambda spec: spec.dataset.synthesis is not None,
)

REHEARSE: Final = Stage(
    name="rehearse",
    phase="Rehearsing",
    condition="Rehearsed",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.rehearse.stage:rehearse",
    weight=5.0,
    fields=("dataset.replay.selfSynthesis",),
    reads=("prepare",),
    compute=Compute.ACCELERATOR,
    memory=memory.scoring,
    resumes=True,
    applies=lambda spec: spec.dataset.replay is not None and spec.dataset.replay.source is None,
)

# What training depends on, and so every trial and every fold.
_TRAINING_FIELDS: Final = (
    "training.method",
    "training.dpo",
    "training.lora",
    "training.optimizer",
    "training.parallelism",
    "training.compile",
    "training.schedule",
    "training.batch",
    "training.freeze",
    "training.epochs",
    "training.maxSteps",
    "training.precision",
    "training.packing",
    "training.evaluateEverySteps",
    "training.regularization",
    "training.earlyStopping",
    "training.control",
    "training.seed",
    "training.klToBase",
    "training.distillation.objective",
    "training.distillation.weight",
    "training.distillation.onPolicy",
    "training.distillation.temperature",
    "training.adversarial",
    "training.fairness",
    "training.explanation",
    "training.forgettingBudget",
    "dataset.replay.ratio",
    # More workers or another device add up the same gradients in another order.
    "resources.workers",
    "resources.minWorkers",
    "resources.gpusPerWorker",
    "resources.accelerator",
    # Its loss is measured along the way: the other half of what training does to a model.
    "evaluation.generalText.uri",
)

SEARCH: Final = Stage(
    name="search",
    phase="Searching",
    condition="Searched",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.search.stage:search",
    weight=100.0,
    secrets=_OF_RUNS,
    fields=("search",),
    shared=_TRAINING_FIELDS,
    reads=("prepare", "synthesize", "rehearse"),
    sources=("evaluation.generalText",),
    compute=Compute.ACCELERATOR,
    memory=training_memory.searching,
    resumes=True,
    applies=lambda spec: spec.search is not None,
)

CROSSVAL: Final = Stage(
    name="crossval",
    phase="CrossValidating",
    condition="CrossValidated",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.crossval.stage:cross_validate",
    weight=100.0,
    secrets=_OF_RUNS,
    fields=("crossValidation",),
    shared=_TRAINING_FIELDS,
    # Of the last: the settings of the best trial.
    reads=("prepare", "synthesize", "rehearse", "search"),
    sources=("evaluation.generalText",),
    compute=Compute.ACCELERATOR,
    memory=training_memory.cross_validating,
    resumes=True,
    applies=lambda spec: spec.cross_validation is not None,
)

TRAIN: Final = Stage(
    name="train",
    phase="Training",
    condition="Trained",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.train.stage:train",
    weight=55.0,
    secrets=_OF_RUNS,
    fields=_TRAINING_FIELDS,
    # Of the others: rows that a model wrote, those that the base made up, and settings, where the
    # job asks for them.
    reads=("prepare", "synthesize", "rehearse", "search", "crossval"),
    sources=("evaluation.generalText",),
    compute=Compute.WORKERS,
    memory=training_memory.training,
    resumes=True,
)

EVALUATE: Final = Stage(
    name="evaluate",
    phase="Evaluating",
    condition="Evaluated",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.evaluate.stage:evaluate",
    weight=10.0,
    secrets=("evaluation",),
    fields=(
        "evaluation.generation",
        "evaluation.bootstrap",
        "evaluation.gates",
        "evaluation.interpolation",
        "evaluation.suites",
        "evaluation.fairness",
        "evaluation.robustness",
        "evaluation.judge.criteria",
        "evaluation.judge.maxSamples",
        "evaluation.judge.endpoint.url",
        "evaluation.judge.endpoint.model",
        "evaluation.judge.endpoint.pricePerMillionTokens",
        "evaluation.reference.endpoint.url",
        "evaluation.reference.endpoint.model",
        "evaluation.reference.endpoint.pricePerMillionTokens",
    ),
    reads=("prepare", "train"),
    sources=("evaluation.suites", "evaluation.fairness.suites"),
    compute=Compute.ACCELERATOR,
    memory=memory.evaluating,
)

EXPLAIN: Final = Stage(
    name="explain",
    phase="Explaining",
    condition="Explained",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.explain.stage:explain",
    weight=5.0,
    fields=("evaluation.explain",),
    # Of the last: the loss of each row, by which failures are chosen.
    reads=("prepare", "train", "evaluate"),
    compute=Compute.ACCELERATOR,
    memory=memory.explaining,
    published=(Published("explanation", "explanation.json"),),
    applies=lambda spec: spec.evaluation.explain is not None,
)

DISTILL: Final = Stage(
    name="distill",
    phase="Distilling",
    condition="Distilled",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.distill.stage:distill",
    weight=40.0,
    fields=("compression.prune", "compression.ladder.ratios"),
    secrets=("evaluation.generalText",),
    # Of the second and third: rows that a model wrote, and those that are replayed; of the last:
    # the tuned model's losses, which the teacher must have.
    reads=("prepare", "synthesize", "rehearse", "train", "evaluate"),
    compute=Compute.ACCELERATOR,
    memory=training_memory.distilling,
    resumes=True,
    published=(Published("distillation", "distillation.json"),),
    applies=lambda spec: spec.compression.prune is not None,
)

DRAFT: Final = Stage(
    name="draft",
    phase="Drafting",
    condition="Drafted",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.distill.draft:draft",
    weight=40.0,
    fields=("serving.speculative.draft",),
    secrets=("evaluation.generalText",),
    # As of distill; of the last: the smaller model, whose guesser this is then.
    reads=("prepare", "synthesize", "rehearse", "train", "evaluate", "distill"),
    compute=Compute.ACCELERATOR,
    memory=training_memory.drafting,
    resumes=True,
    published=(Published("drafting", "draft.json"),),
    applies=lambda spec: (
        spec.serving.speculative is not None and spec.serving.speculative.has_draft
    ),
)

COMPRESS: Final = Stage(
    name="compress",
    phase="Compressing",
    condition="Compressed",
    environment=Environment.COMPRESSOR,
    function="tunesmith_trainer.compress.stage:compress",
    weight=10.0,
    secrets=("evaluation.generalText", "evaluation.fairness"),
    fields=(
        "compression.quantize",
        "compression.gate",
        "compression.ladder.schemes",
        # It also writes the reference that `verify` compares with: as many answers, of as many
        # tokens, to prompts of as many, as are asked for there.
        "verification.prompts",
        "verification.maxNewTokens",
        "serving.maxModelLength",
        # And, where the adapter is published, the reference for that.
        "output.artifact",
    ),
    # Of `evaluate`: the tuned model's losses and scores, to measure again what is left of them. Of
    # the last: the smaller model in the tuned one's place.
    reads=("prepare", "train", "evaluate", "distill"),
    compute=Compute.ACCELERATOR,
    memory=memory.compressing,
)

EXPORT: Final = Stage(
    name="export",
    phase="Exporting",
    condition="Exported",
    environment=Environment.EDGE,
    function="tunesmith_trainer.export.stage:export",
    weight=10.0,
    fields=("export",),
    reads=("prepare", "train", "distill"),
    memory=memory.exporting,
    published=(Published("exports", "exports.json"),),
    applies=lambda spec: spec.export is not None,
)

VERIFY: Final = Stage(
    name="verify",
    phase="Verifying",
    condition="Verified",
    environment=Environment.SERVER,
    function="tunesmith_serving.verify.stage:verify",
    weight=15.0,
    fields=(
        "verification.minAgreement",
        "verification.maxLogprobDifference",
        "verification.measureSpeed",
        "serving.enforceEager",
        "serving.speculative.method",
        "serving.speculative.tokens",
        "serving.speculative.lookup",
    ),
    # Of the first and the third: base and adapter, where that is published; of search: its rank;
    # of distill: the shape of what was quantized; of draft: what guesses tokens.
    reads=("prepare", "search", "train", "distill", "draft", "compress"),
    compute=Compute.ACCELERATOR,
    memory=memory.serving,
    published=(
        Published("parity", "parity.json"),
        Published("fingerprints", "fingerprints.json"),
        # Of an adapter beside a merged model, to which the others belong then.
        Published("adapterParity", "adapter-parity.json", is_optional=True),
        Published("adapterFingerprints", ADAPTER_FINGERPRINTS, is_optional=True),
    ),
)

# All of a job before `publish`, in order. A version documents everything that it was made from, so
# `publish` reads every one of them that applies.
_BEFORE_PUBLISH: Final = (
    PREPARE,
    SYNTHESIZE,
    REHEARSE,
    SEARCH,
    CROSSVAL,
    TRAIN,
    EVALUATE,
    EXPLAIN,
    DISTILL,
    DRAFT,
    COMPRESS,
    EXPORT,
    VERIFY,
)

PUBLISH: Final = Stage(
    name="publish",
    phase="Publishing",
    condition="Published",
    environment=Environment.TRAINER,
    function="tunesmith_trainer.publish.stage:publish",
    weight=5.0,
    secrets=("output",),
    fields=("output.model", "output.uri", "output.version", "output.signing"),
    reads=tuple(stage.name for stage in _BEFORE_PUBLISH),
    memory=memory.publishing,
    names_the_job=True,
)

CATALOG: Final = Catalog((*_BEFORE_PUBLISH, PUBLISH))
