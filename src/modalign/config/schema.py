"""Every setting with its type and range, checked before torch is imported; open parts stay `_target_` dicts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from modalign.config.evaluation_settings import EvaluationSettings
from modalign.config.kinds import Compiled, Names, NonNegative, Positive, Precision, Share, Strict, Target
from modalign.config.plan_settings import PlanSettings


class Paths(Strict):
    """Where runs and shards are written and where recipes are looked for (relative: from the working directory)."""

    runs: str
    data: str
    recipes: Names = ()


class StartValues(Strict):
    """Where a modality's own parts start from: another modality's, or nothing (`none`)."""

    source: str = Field(default="none", alias="from")
    noise: NonNegative = 0.0


class PositionSettings(Strict):
    """Whose positions mark the tokens: the encoder's own, or learned ones; and how many frames are told apart."""

    learned: bool = False
    num_frames: Annotated[int, Field(ge=0)] = 0
    std: Positive = 0.02
    frame_gain: Share = 0.0


# What a modality's tokenizer may start from: the encoder's patches, or a regression onto its own captions.
FROM_ENCODER, FROM_CAPTIONS = "encoder", "captions"


class ModalitySettings(Strict):
    """One modality, declared whole: from the file's bytes to the projector it uses."""

    title: str
    decoder: Target
    augment: tuple[Target, ...] = ()
    tokenizer: Target
    positions: PositionSettings = PositionSettings()
    encoder: str | None = None
    projector: str
    prompts: tuple[str, ...]
    start: StartValues = StartValues()
    learning_rate_scale: Positive = 1.0  # of all that is the modality's own
    tokenizer_rate_scale: Positive = 1.0  # of its tokenizer, beside that
    recipes: Names = ()
    display: dict[str, Any] = {}

    @field_validator("tokenizer")
    @classmethod
    def _names_its_part(cls, value: Target) -> Target:
        if not isinstance(value.get("part"), str):
            raise ValueError("needs 'part', the name of the tokenizer (shared between modalities by name)")
        return value


class TowerSettings(Strict):
    """What a set's modality files read of the chosen encoder, by interpolation: one set of files for all encoders."""

    encoder: str
    width: PositiveInt
    patch_px: PositiveInt
    size_px: PositiveInt
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


class ModelSettings(Strict):
    """The parts that modalities share, and where the language model and the encoder come from."""

    name: str
    modality_set: str
    encoders: dict[str, Target]
    projectors: dict[str, Target]
    fusion: Target
    language_model: Target
    backbones: tuple[str, ...] = ()
    backbones_from: Literal["shipped"] | None = None  # shipped: those of the package, whatever the seed and the world
    make_missing: bool = False
    text_tokenizer: str | None = None
    max_text_tokens: PositiveInt = 128
    tower: TowerSettings | None = None


class MuonSettings(Strict):
    """Orthogonal steps for linear maps between hidden states: of which parts, how long, and the momentum's decay."""

    parts: tuple[str, ...]
    learning_rate: Positive  # the length of a step in the spectral norm
    momentum: Share = 0.95


class OptimizerSettings(Strict):
    """AdamW, for linear maps Muon where it is set; warm-up and cosine are counted in optimizer steps."""

    learning_rate: Positive
    scale: dict[str, Positive] = {}  # of the rates of parts, by selector
    earlier_scale: Positive = 1.0  # of the rates of what an earlier phase has trained
    floor: Share = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: NonNegative = 0.0
    betas: tuple[Share, Share] = (0.9, 0.95)
    clip: Positive | None = 1.0
    muon: MuonSettings | None = None


class ChatSettings(Strict):
    """How a conversation is laid out; `{question}` and `{answer}` are filled in."""

    system: str = ""
    user: str = "### Human: {question}\n### Assistant:"
    assistant: str = " {answer}\n###"
    stop: str = "###"


class OptimizerChanges(Strict):
    """What of a stage's optimizer one phase has otherwise."""

    learning_rate: Positive | None = None
    floor: Share | None = None
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    weight_decay: NonNegative | None = None


class PhaseChanges(Strict):
    """What of a stage's settings one phase of a curriculum has otherwise."""

    steps: PositiveInt | None = None  # of new samples in the whole phase, unless the stage says how many
    slice_size: PositiveInt | None = None
    slices_per_step: PositiveInt | None = None
    optimizer: OptimizerChanges = OptimizerChanges()


class StageSettings(Strict):
    """How to train: which parts, on what template, for how many steps of new samples, with which optimizer."""

    module: Target
    train: tuple[str, ...] | Literal["new"]
    parts: tuple[str, ...] = ()  # what phases train that are not additive where `train` is new
    frozen: tuple[str, ...] = ()  # of what `train` names, what stays frozen all the same
    frozen_after: tuple[str, ...] = ()  # and what does once the phase is over that brought it
    template: Literal["caption", "chat", "text", "contrast"]
    steps: PositiveInt | None = None  # null: what curriculum.steps says of the modality
    slice_size: PositiveInt = 32
    slices_per_step: PositiveInt = 1
    optimizer: OptimizerSettings
    replay: str | dict[str, float] = "none"
    replay_keep: Literal["new", "total"] = "new"
    caption_share: Share = 0.5
    chat: ChatSettings = ChatSettings()
    max_text_tokens: PositiveInt | None = None  # of one sample, where it is not the model's
    backbone: str | None = None
    phases: dict[str, tuple[PhaseChanges, ...]] = {}  # curriculum to its phases' changes, in order

    @field_validator("train", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return value if value == "new" or isinstance(value, (list, tuple)) else (value,)


class GateSettings(Strict):
    """Where a curriculum stops: `max_forgetting` is the largest fall of an earlier modality in points; null: never."""

    max_forgetting: NonNegative | None = None


class CurriculumSettings(Strict):
    """The order of phases, and what changes between them, and the gate that each has to pass.

    `additive` names modalities that come after all others, one by one, and train their own parts only.
    """

    name: str
    groups: Literal["by_size", "reverse", "joint"] | tuple[tuple[str, ...], ...]
    additive: Names = ()
    first_phase_experts: PositiveInt | None = None
    expert_noise: NonNegative = 0.0
    steps: dict[str, PositiveInt] = {}  # by modality, and `default`
    gate: GateSettings = GateSettings()


class DataSettings(Strict):
    """Which recipes feed which stage, and how they are read."""

    align: dict[str, Names] = {}
    instruct: dict[str, Positive] = {}
    pretrain_text: Names = ()
    pretrain_contrast: Names = ()
    pairs: Names = ()
    text_loss: str | None = None
    accept_licences: Names = ()
    locations: dict[str, str] = {}
    train_samples: dict[str, PositiveInt] = {}
    reader: Literal["indexed", "webdataset"] = "indexed"
    shard_cache: str | None = None
    shard_cache_gb: Positive = 50.0
    piece_mb: NonNegative = 4.0
    workers: Annotated[int, Field(ge=0)] = 0
    ahead: Annotated[int, Field(ge=0)] = 0  # slices that a thread makes ready where there are no workers
    block: PositiveInt = 64
    window: PositiveInt = 16
    cache_mb: Annotated[int, Field(ge=0)] = 2048
    max_bad_share: Share = 0.01
    feature_cache: Literal["off", "on", "auto"] = "off"
    feature_cache_gb: Positive = 20.0
    feature_cache_folder: str | None = None  # null: in paths.data

    @field_validator("feature_cache", mode="before")
    @classmethod
    def _as_word(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # as YAML reads on and off


class TrainerSettings(Strict):
    """The engine: none of these changes a result except precision, and compile the last bits.

    `devices` counts processes a node (torchrun and srun say it themselves); `step_timeout_s` 0 never gives a step up;
    `profile` steps are looked at by torch's profiler.
    """

    accelerator: str = "auto"
    devices: PositiveInt | Literal["auto"] = 1
    num_nodes: PositiveInt = 1
    engine: Literal["auto", "single", "ddp", "fsdp2"] = "auto"
    activation_checkpointing: bool = False
    step_timeout_s: NonNegative = 1800
    precision: Precision = "32-true"
    compile: Compiled = "off"
    threads: Annotated[int, Field(ge=0)] = 0
    log_every: PositiveInt = 10
    checkpoint_every: PositiveInt = 100
    keep_every: Annotated[int, Field(ge=0)] = 0
    async_checkpoints: bool = False
    progress: bool = True
    profile: Annotated[int, Field(ge=0)] = 0
    requeue: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_strategy(cls, given: Any) -> Any:
        """The manifests of earlier runs name Lightning's strategy, which `engine` has replaced."""
        return {k: v for k, v in given.items() if k != "strategy"} if isinstance(given, dict) else given


class LoggerSettings(Strict):
    """CSV is always written; W&B beside it by `logger=wandb` (mode online, offline or disabled).

    `patience_s` is how long W&B is waited for at the beginning and at the end; `group` is the experiment's name where
    none is given.
    """

    wandb: bool = False
    mode: Literal["online", "offline", "disabled"] = "online"
    project: str = "modalign"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    patience_s: Positive = 60


class Settings(Strict):
    """One command's whole configuration."""

    stage: str | None = None
    modality: str | tuple[str, ...] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    fresh: bool = False
    paths: Paths
    model: ModelSettings
    modalities: dict[str, ModalitySettings]
    stages: dict[str, StageSettings]
    curriculum: CurriculumSettings
    data: DataSettings
    evaluation: EvaluationSettings
    trainer: TrainerSettings
    logger: LoggerSettings
    plan: PlanSettings = PlanSettings()
    world: dict[str, Any]

    def requested(self) -> tuple[str, ...]:
        """The modalities asked for on the command line, in the order given."""
        if self.modality is None:
            return ()
        return (self.modality,) if isinstance(self.modality, str) else tuple(self.modality)
