"""Settings: what a training is asked for; each setting is declared once, with its option, range and help."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sdcli.errors import UsageError
from sdcli.home import expand_home
from sdcli.request import fields
from sdcli.request.fields import option

SUFFIX = ".safetensors"

OPTIMIZERS = {
    "adamw": ("torch", "torch.optim", "AdamW"),
    "adamw8bit": ("bitsandbytes", "bitsandbytes.optim", "AdamW8bit"),
    "prodigy": ("prodigyopt", "prodigyopt", "Prodigy"),
}
"""Name -> (the package that has it, as pip calls it, its module, its class)."""

RATE_SCHEDULES = ("constant", "linear", "cosine")
"""How the learning rate goes: it stays, or falls to 0 at the last step."""


@dataclass(frozen=True, kw_only=True)
class Training(fields.Checked):
    """What both kinds of training are asked for. `steps` are updates of the weights."""

    data: str | None = option(
        None, "--data", type=str, path=True,
        help="Folder with pictures; the caption of each is in a .txt of its name, else it is the name in words.",
    )  # fmt: skip
    model: str = option(
        "tiny", "-m", "--model", type=str, path=True,
        help="Model to train on: tiny (embedded), a safetensors file, a diffusers folder, or a hub repo.",
    )  # fmt: skip
    revision: str | None = option(
        None, "--revision", type=str, help="Revision of a hub repo; the newest if not given."
    )
    vae: str | None = option(
        None,
        "--vae",
        type=str,
        path=True,
        help="Use another VAE: a safetensors file or a folder that holds one.",
    )
    prediction: str = option(
        "auto", "--prediction", type=str, choices=("auto", "epsilon", "v_prediction", "sample"),
        help="What the U-Net predicts, if it is not recognised: auto, epsilon, v_prediction or sample.",
    )  # fmt: skip
    ztsnr: bool = option(
        False, "--ztsnr", type=bool,
        help="Rescale the noise levels to zero terminal SNR, for models trained so that do not say it.",
    )  # fmt: skip
    out: str | None = option(
        None, "-o", "--out", type=str, path=True,
        help="The .safetensors file to write; what is made on the way goes into the folder NAME-training beside it.",
    )  # fmt: skip
    steps: int = option(
        1000, "-s", "--steps", type=int, low=1, high=1_000_000, help="Updates of the weights."
    )
    lr: float | None = option(
        None, "--lr", type=float, low=0.0, high=100.0,
        help="Learning rate. For a LoRA 0.0001, or 0.001 on tiny, and for a word 0.005, if not given.",
    )  # fmt: skip
    lr_schedule: str = option(
        "constant", "--lr-schedule", type=str, choices=RATE_SCHEDULES,
        help="How the learning rate goes: constant, or linear or cosine down to 0.",
    )  # fmt: skip
    batch: int = option(
        1, "--batch", type=int, low=1, high=1024, help="Pictures that are learned from at once."
    )
    accumulate: int = option(
        1, "--accumulate", type=int, low=1, high=1024,
        help="Batches whose gradients are averaged for one update: a larger batch in the memory of a small one.",
    )  # fmt: skip
    resolution: int | None = option(
        None, "--resolution", type=int, low=8, high=4096,
        help="Pictures are scaled to the area of a square of this side, in buckets by their proportions; "
        "the model's own if not given.",
    )  # fmt: skip
    min_snr: float = option(
        5.0, "--min-snr", type=float, low=0.0, high=1000.0,
        help="Weigh noise levels by min-SNR with this gamma; 0 weighs all alike.",
    )  # fmt: skip
    optimizer: str = option(
        "adamw", "--optimizer", type=str, choices=tuple(OPTIMIZERS),
        help="adamw; adamw8bit and prodigy where their packages are installed.",
    )  # fmt: skip
    seed: int = option(
        0, "--seed", type=int, low=0, high=2**32 - 1,
        help="Seed of the first weights, the order, the noise and its levels.",
    )  # fmt: skip
    gradient_checkpointing: bool | None = option(
        None, "--gradient-checkpointing", type=bool, off="--no-gradient-checkpointing",
        help="Calculate layers again on the way back in place of keeping them: less memory, more time. "
        "On for large models if not given.",
    )  # fmt: skip
    save_every: int | None = option(
        None, "--save-every", type=int, low=1, high=1_000_000,
        help="Save what is learned after every so many steps, each in a folder of its own.",
    )  # fmt: skip
    sample: tuple[str, ...] = option(
        (), "--sample", type=str, many=True,
        help="Draw this prompt before, while and after training, into the sheet samples.png; may be repeated.",
    )  # fmt: skip
    sample_every: int | None = option(
        None, "--sample-every", type=int, low=1, high=1_000_000,
        help="Draw the prompts of --sample after every so many steps; a quarter of all if not given.",
    )  # fmt: skip
    device: str = option("auto", "--device", type=str, help="Device: auto, cpu, cuda or cuda:N.")
    dtype: str = option(
        "auto", "--dtype", type=str, choices=("auto", "float32", "bfloat16"),
        help="Number format of the networks; what is learned is float32. bfloat16 where the machine has it if auto.",
    )  # fmt: skip
    threads: int | None = option(
        None, "--threads", type=int, low=1, high=1024,
        help="Threads on a CPU; one per core if not given. Their number changes the last bits.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        fields.check_fields(self)
        for name, flag, what in (
            ("data", "--data", "the folder with pictures"),
            ("out", "-o", "the file to write"),
        ):
            if getattr(self, name) is None:
                raise UsageError(f"{flag} is missing: name {what}")
        if self.path.suffix != SUFFIX:
            raise UsageError(
                f"{self.out}: what is learned is written as {SUFFIX}; name it {self.out}{SUFFIX}"
            )
        package = OPTIMIZERS[self.optimizer][0]
        if find_spec(package.replace("-", "_")) is None:
            raise UsageError(
                f"--optimizer {self.optimizer}: the package {package} is not installed; pip install {package}, "
                "or use adamw"
            )
        if self.sample_every and not self.sample:
            raise UsageError("--sample-every says when prompts are drawn, and there are none; add --sample")

    @property
    def path(self) -> Path:
        """The file to write."""
        return Path(expand_home(str(self.out)))

    @property
    def folder(self) -> Path:
        """The folder for what is made on the way."""
        return self.path.with_name(f"{self.path.stem}-training")


@dataclass(frozen=True, kw_only=True)
class LoraTraining(Training):
    """A LoRA of the U-Net's transformer blocks and, if `conv_rank` is not 0, of its other layers."""

    rank: int = option(
        16, "--rank", type=int, low=1, high=1024, help="Rank of the LoRA: how much it can learn."
    )
    alpha: float | None = option(
        None, "--alpha", type=float, low=0.0, high=100_000.0,
        help="The LoRA is scaled by alpha / rank; alpha is the rank if not given.",
    )  # fmt: skip
    conv_rank: int | None = option(
        None, "--conv-rank", type=int, low=0, high=1024,
        help="Rank of a LoRA for the residual blocks and resampling too; 0 is none. The rank on tiny, else 0, if not "
        "given.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha == 0:
            raise UsageError("--alpha 0 scales the LoRA to nothing; use the rank, or leave it out")


@dataclass(frozen=True, kw_only=True)
class EmbeddingTraining(Training):
    """A textual inversion: vectors for a word, all weights stay as they are."""

    word: str | None = option(
        None, "--word", type=str, help="The word that is learned, such as <mine>; prompts name it."
    )
    init: str = option(
        "*", "--init", type=str, help="Words whose vectors are the first ones of the new word."
    )
    vectors: int = option(1, "--vectors", type=int, low=1, high=75, help="Vectors, and tokens, of the word.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.word is None:
            raise UsageError("--word is missing: say which word is learned, such as <mine>")
        for prompt in self.sample:
            if self.word.lower() not in prompt.lower():
                raise UsageError(f"--sample {prompt!r} does not name {self.word}; write it where it belongs")
