"""Every hyperparameter of a training run: type, default, range and description, defined here and only here.

The recipe, the command line's help, `docs/recipe.md`, the trainer and KerasTuner's search space all read this class.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from typing_extensions import Self

from bertgrid_tf.corpus.layout import CONTEXTS, SPEAKER_FORMATS

AUTO = "auto"
CHECKPOINT = "checkpoint"
"""The value that stands for a dropout rate of the checkpoint's own."""
AUTO_KEYS = ("batch_size", "precision")
"""The hyperparameters for which `auto` stands for a value that is measured before the search."""

WARMUP_EPOCHS = 2
"""The epochs of whose steps `warmup_ratio` is a share where the schedule has no last epoch."""
COOLDOWN = 0.3
"""Epochs of the branch that ends an epoch of a schedule without a last one (Hägele et al. 2024, arXiv 2405.18392)."""

MOST_EPOCHS = 10_000
"""The most epochs of a trial."""

Value = bool | int | float | str
Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["linear", "constant", "inverse_sqrt"]
GroupByLength = Literal["auto", "always", "never"]
ClassWeights = Literal["none", "balanced", "sqrt", "effective"]
HeadRetraining = Literal["none", "refit", "smote", "rose"]
Pooling = Literal["cls", "mean"]
Truncation = Literal["head", "head+tail", "windows"]
LearningRate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
ModelName = Annotated[str, Field(min_length=1, max_length=4096)]
MOST_TEXTS = 10**9
"""The most texts that a number of a recipe may count."""
MOST_BATCH, MOST_GPUS, MOST_WORKERS = 2**20, 1024, 1024
MOST_LAYERS = 1000


class Strict(BaseModel):
    """A part of a recipe: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def shown(value: object) -> str:
    """Write a value for a message, cut to a length that a line has room for."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:79]}…"


def count_or(word: str, most: int) -> WrapValidator:
    """Validate a whole number from 1 to `most` or one word, and name both where a value is neither."""

    def validated(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(f"must be a whole number from 1 to {most:,}, or {word}, not {shown(value)}") from error

    return WrapValidator(validated)


def one_of(value: str, known: Iterable[str]) -> str:
    """Return `value` if it is among `known`.

    Raises:
        ValueError: It is not; the message lists what is.
    """
    if value not in known:
        raise ValueError(f"there is no {shown(value)}; choose from {', '.join(known)}")
    return value


def dropout_rate(value: Any) -> str:
    """Validate a rate or `CHECKPOINT`; as text, since the levels of a sweep are of one type.

    Example:
        >>> dropout_rate("0.20"), dropout_rate(0), dropout_rate("checkpoint")
        ('0.2', '0.0', 'checkpoint')
    """
    try:
        if value == CHECKPOINT or (not isinstance(value, bool) and 0 <= float(value) < 1):
            return value if value == CHECKPOINT else str(float(value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"must be a number from 0 to below 1, or {CHECKPOINT}, not {shown(value)}")


BatchSize = Annotated[Annotated[int, Field(ge=1, le=MOST_BATCH)] | Literal["auto"], count_or(AUTO, MOST_BATCH)]
Dropout = Annotated[str, BeforeValidator(dropout_rate)]


class Hyperparameters(Strict):
    """One value for every hyperparameter of a training run.

    Each of them but the learning rate can be swept. A field's description is Markdown: the command line's help and
    `docs/recipe.md` print it.

    Example:
        >>> Hyperparameters(batch_size=16).batch_size
        16
        >>> Hyperparameters(warmup_ratio=2)
        Traceback (most recent call last):
        ...
        pydantic_core._pydantic_core.ValidationError: 1 validation error for Hyperparameters
        ...
    """

    model: ModelName = Field(
        "bert-base-cased",
        description="hub id (`ID@REVISION` for a branch, tag or commit), folder, or `scratch:LAYERSxWIDTH`: a BERT "
        "with random weights and a WordPiece vocabulary trained on the training texts",
    )
    learning_rate: LearningRate = Field(
        2e-5, description="peak learning rate of the sweeps; the grid has `learning_rates`"
    )
    batch_size: BatchSize = Field(
        32, description="texts per step; `auto`: [as many as fit the memory](#the-largest-batch-that-fits)"
    )
    max_length: int = Field(
        64,
        ge=3,
        le=2**16,
        description="tokens of an input, special tokens included; context is truncated first, the current utterance "
        "last; of a pair, the longer text first",
    )
    truncation: Truncation = Field(
        "head",
        description="what is kept of a current utterance that is too long, or of each such text of a pair: its "
        "beginning (`head`), or a quarter of its beginning and the rest of its end (`head+tail`, [Sun et al. 2019]"
        "(https://arxiv.org/abs/1905.05583)); `windows`: all of it, in [windows](#texts-in-windows) that overlap",
    )
    context: str = Field(
        "current",
        description=f"utterances of an input: {', '.join(f'`{context}`' for context in CONTEXTS)}; `[None]` stands for "
        "a missing neighbour",
    )
    speaker_format: str = Field(
        "colon",
        description="`colon` (`Ross : Hi.`), `plain` (`Ross Hi.`), `brackets` (`[Ross] Hi.`), `says` "
        "(`[Ross] [Says] Hi.`), `none`",
    )
    min_speaker_count: int = Field(
        0, ge=0, le=MOST_TEXTS, description="training utterances that a speaker needs for the name to be shown"
    )
    markers: Literal["pieces", "tokens"] = Field(
        "pieces",
        description="`[None]` and `[Says]` as word pieces, or as one added token each (`tokens`); see "
        "[markers.md](markers.md)",
    )
    oversample_ratio: float = Field(
        0.0, ge=0, le=1, description="from 0 (none) to 1 (every class as large as the largest)"
    )
    undersample: str = Field(
        "none",
        description="`CLASS` (reduced to the largest class not named) or `CLASS:0.5` (that share is kept), several "
        "joined by `+`",
    )
    class_weights: ClassWeights = Field(
        "none",
        description="weight of a text's loss by the size n of its class, with mean 1: proportional to 1/n "
        "(`balanced`), 1/√n (`sqrt`), or (1 − β)/(1 − βⁿ) with β = 0.999 (`effective`)",
    )
    focal_gamma: float = Field(
        0.0, ge=0, le=1000, description="γ of the focal loss, (1 − p)^γ · cross-entropy; 0: cross-entropy"
    )
    soft_label_weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of the raters' votes in the target distribution, from 0 (labels alone) to 1 (votes alone); "
        "only Friends has votes, and texts labelled `non-neutral` keep their label",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the target distribution that is spread evenly over all classes, after the votes have had "
        "theirs; class weights and the focal loss apply to the result",
    )
    head_retraining: HeadRetraining = Field(
        "none",
        description="`refit`: after each epoch the classifier alone is refitted to the training texts' pooled vectors; "
        "`smote`, `rose`: likewise, with every class enlarged to the size of the largest by synthetic vectors between "
        "([SMOTE](https://arxiv.org/abs/1106.1813)) or around (ROSE) its own. That head is scored and saved; training "
        "continues with the trained one. [Without padding](checkpoints.md#without-padding) only",
    )
    pooling: Pooling = Field(
        "cls",
        description="vector that the head reads: the first token's (`cls`), or the mean of all tokens' (`mean`), "
        "which [plain transformers does not have](#a-model-with-mean-pooling). "
        "[Without padding](checkpoints.md#without-padding) only",
    )
    hidden_dropout: Dropout = Field(
        CHECKPOINT,
        description="dropout rate after the embeddings and the dense layers, from 0 to below 1; `checkpoint`: its own",
    )
    attention_dropout: Dropout = Field(CHECKPOINT, description="likewise, of the attention weights")
    classifier_dropout: Dropout = Field(CHECKPOINT, description="likewise, in the head")
    warmup_ratio: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of all steps over which the learning rate rises to its peak; with `inverse_sqrt` of the "
        f"steps of {WARMUP_EPOCHS} epochs, and where it begins to fall",
    )
    lr_schedule: Schedule = Field(
        "linear",
        description="after warm-up: decay to 0 (`linear`), `constant`, or decay with the inverse square root of the "
        "step (`inverse_sqrt`). That one knows no last epoch: each is scored after a branch on which the last 0.3 of "
        "the epoch decay to 0, and the row goes on from where the branch began",
    )
    # Beyond these, float32 has no number for the products that they enter.
    weight_decay: float = Field(0.01, ge=0, le=1e9, description="decoupled; not on biases and LayerNorm")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="learning rate of a layer as a multiple of that of the layer above: the head (with the pooler) has "
        "the schedule's, the embeddings the lowest; weight decay follows it. 1: one rate for all",
    )
    reinit_layers: int = Field(
        0,
        ge=0,
        le=MOST_LAYERS,
        description="top layers of the checkpoint that are drawn anew, with the pooler, before training; "
        "the seed decides ([Zhang et al. 2021](https://arxiv.org/abs/2006.05987))",
    )
    frozen_layers: int = Field(
        0,
        ge=0,
        le=MOST_LAYERS,
        description="lowest layers that are not trained, with the embeddings; their backward pass is not computed",
    )
    max_grad_norm: float = Field(1.0, gt=0, le=1e9, description="gradients are clipped to this global norm")
    group_by_length: GroupByLength = Field(
        "auto",
        description="texts of similar length share a batch: `always`, `never`, or `auto`: only where padding is "
        "[computed](checkpoints.md#without-padding)",
    )
    precision: Literal["auto"] | Precision = Field(
        "fp32",
        description="of matrix products: `fp32`, `bf16`, or `fp16` with loss scaling; weights and optimizer stay fp32. "
        "`auto`: [the fastest](#the-fastest-precision) whose loss agrees. Other than `fp32`: "
        "[without padding](checkpoints.md#without-padding) only",
    )

    @property
    def resolved_precision(self) -> Precision:
        """The precision, once `auto` has been replaced by a measured one."""
        assert self.precision != "auto"
        return self.precision

    @property
    def dropout_rates(self) -> dict[str, float]:
        """The dropout rates that are not the checkpoint's, by the place of the layers (`bert.dropout`)."""
        rates = {place: getattr(self, f"{place}_dropout") for place in ("hidden", "attention", "classifier")}
        return {place: float(rate) for place, rate in rates.items() if rate != CHECKPOINT}

    @property
    def needs_horizon(self) -> bool:
        """Whether the learning rate of a step depends on the number of all steps."""
        return self.lr_schedule == "linear" or (self.lr_schedule == "constant" and self.warmup_ratio > 0)

    @property
    def has_branches(self) -> bool:
        """Whether a score is that of a branch of `COOLDOWN` epochs, which the training run goes on without."""
        return self.lr_schedule == "inverse_sqrt"

    def branch_steps(self, steps: int) -> int:
        """Return the steps of the branch that ends an epoch of `steps`; 0 without branches."""
        return max(round(COOLDOWN * steps), 1) if self.has_branches else 0

    def trial_steps(self, steps: int, epochs: int) -> int:
        """Return the steps of a trial of `epochs` of `steps` each, those trained once more beside a branch included.

        Example:
            >>> Hyperparameters(learning_rate=1e-4, lr_schedule="inverse_sqrt").trial_steps(steps=10, epochs=3)
            36
        """
        # Before its first branch a row has not gone on from anywhere.
        return epochs * steps + max(epochs - 1, 0) * self.branch_steps(steps)

    @field_validator("context")
    @classmethod
    def _known_context(cls, context: str) -> str:
        return one_of(context, CONTEXTS)

    @field_validator("speaker_format")
    @classmethod
    def _known_format(cls, speaker_format: str) -> str:
        return one_of(speaker_format, SPEAKER_FORMATS)

    @classmethod
    def from_values(cls, values: Mapping[str, Value]) -> Self:
        """Pick the hyperparameters out of a trial's values, which hold its schedule besides."""
        return cls.model_validate({name: values[name] for name in cls.model_fields})


SWEEPABLE = tuple(name for name in Hyperparameters.model_fields if name != "learning_rate")
"""The hyperparameters that a sweep can vary."""
