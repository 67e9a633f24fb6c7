"""Estimate: how long a picture takes and how much memory, told from its model's headers before anything is loaded.

The work is counted from the shapes of the weights. The speed is that of the last picture that this machine drew with
such a model; before the first, it is a figure per core that most machines exceed. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdcli import registry
from sdcli.checkpoints import control_file
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.component import Component
from sdcli.checkpoints.control_file import ControlFile
from sdcli.errors import OutOfMemory, UsageError
from sdcli.request import controls
from sdcli.request.controls import ControlUse
from sdcli.request.request import Request
from sdcli.settings import cache_folder

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a weight -> its shape, (outputs, inputs) or (outputs, inputs, kernel height, kernel width)."""

GUESSED_PER_CORE = 15e9  # floating point operations a second of a CPU core in float32; most do more
GUESSED_GPU = 5e12  # of a GPU
TOO_SLOW = 1200.0  # seconds for one picture from which it has to be asked for
WORTH_MEASURING = 1.0  # seconds of steps; a shorter run says little
TOKENS = 77
_ENCODER = ("conv_in.", "down_blocks.", "mid_block.")
"""The parts of a ControlNet that work at every step."""
STORED_BYTES = {"bf16": 2.0, "fp8": 1.0}
"""`--store` -> bytes of a weight that waits for its layer to run."""
ROWS = {"pag": 3, "sag": 3, "perp_neg": 3, "pix2pix": 3}
"""Guidance -> evaluations of the network for each level, if not 2."""


@dataclass(frozen=True)
class Estimate:
    """What one picture takes."""

    operations: float  # floating point operations of all steps and of the decoding
    seconds: float
    measured: bool  # False: the speed is a guess
    bytes: float  # of the weights of the U-Net and of control networks, and of what the U-Net holds at once
    available: float  # bytes that are free; infinite where that is unknown
    streamed: float = math.inf  # bytes if the U-Net's weights are read layer by layer

    def text(self) -> str:
        """`about 3 min, 1.2 GB of memory (by a step measured here)`."""
        basis = "by the steps measured here" if self.measured else "guessed: no step was measured here yet"
        return f"about {duration(self.seconds)}, {self.bytes / 1e9:.1f} GB of memory ({basis})"

    def check(self, size: str) -> None:
        """Raise an SdError if the picture would take longer than TOO_SLOW, or more memory than there is."""
        if min(self.bytes, self.streamed) > self.available:
            streamed = (
                f", or {self.streamed / 1e9:.1f} GB with --stream" if self.streamed < self.bytes else ""
            )
            raise OutOfMemory(
                f"{size} pixels take {self.bytes / 1e9:.1f} GB of memory{streamed}, "
                f"{self.available / 1e9:.1f} GB are free; "
                "choose a smaller --width and --height, or try it with --allow-slow"
            )
        if self.seconds > TOO_SLOW:
            raise UsageError(
                f"{size} pixels take {self.text()}; choose a smaller --width and --height or fewer --steps, or "
                "confirm it with --allow-slow"
            )


def estimate(found: Checkpoint, request: Request) -> Estimate | None:
    """The estimate for a request whose size is filled in; None for a model without files, whose work is unknown."""
    unet = _shapes(found.components["unet"])
    if not unet:
        return None
    operations = request_operations(found, request)
    key = speed_key(found, request)
    speeds = _speeds()
    speed, measured = (speeds[key], True) if key in speeds else (guessed_speed(request), False)
    height, width = _latent_size(found, request)
    area = height * width * max(1.0, request.hires) ** 2
    work = _working_bytes(unet, area, request) + _control_bytes(request)
    weights, streamed = _weight_bytes(unet, request)
    available = math.inf if _on_gpu(request) else available_memory()
    return Estimate(operations, operations / speed, measured, weights + work, available, streamed + work)


def remember(found: Checkpoint, request: Request, seconds: float) -> None:
    """Remember the speed of a picture whose steps and decoding took so many seconds."""
    if seconds < WORTH_MEASURING or not _shapes(found.components["unet"]):
        return
    folder = cache_folder()
    if folder is None:
        return
    speeds = _speeds() | {speed_key(found, request): request_operations(found, request) / seconds}
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the estimate its measured speed
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"speeds.{os.getpid()}"
        temporary.write_text(json.dumps(speeds, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(folder / "speeds.json")


def speed_key(found: Checkpoint, request: Request) -> str:
    """What the speed of a picture depends on, apart from the amount of work."""
    threads = request.threads or os.environ.get("OMP_NUM_THREADS") or "auto"
    kept = f" store={request.store}" if request.store != "auto" else ""
    kept += " stream" if request.stream else ""
    kept += f" engine={request.engine}" if request.engine != "torch" else ""
    return f"{found.family.name} {request.device} {request.dtype} {request.networks} threads={threads}{kept}"


def request_operations(found: Checkpoint, request: Request) -> float:
    """Floating point operations of all steps of a request, and of decoding its picture."""
    height, width = _latent_size(found, request)
    total = _pass_operations(found, request, height, width, _share_of_steps(found, request))
    if request.hires > 1:
        height, width = round(height * request.hires), round(width * request.hires)
        total += _pass_operations(found, request, height, width, request.hires_strength)
    return total


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2 h 10 min`, `3 days`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} days"


def guessed_speed(request: Request) -> float:
    """Floating point operations a second, of a machine that has drawn nothing yet."""
    if _on_gpu(request):
        return GUESSED_GPU
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    return GUESSED_PER_CORE * (request.threads or cores)


def available_memory() -> float:
    """Bytes of memory that are free, with swap; infinite where that is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    sizes = {name: 1024.0 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return sizes.get("MemAvailable", math.inf) + sizes.get("SwapFree", 0.0)


# --- the work, by the shapes of the weights


def unet_operations(shapes: Shapes, height: int, width: int) -> float:
    """Floating point operations of one evaluation of a U-Net over latents of this size."""
    levels = _levels(shapes, "down_blocks")
    total = 0.0
    for name, shape in shapes.items():
        area = height * width / 4 ** _unet_level(name, levels)
        if "embed" in name or "time_emb" in name or len(shape) < 2:
            continue  # one row a picture
        pixels = TOKENS if ".attn2.to_k." in name or ".attn2.to_v." in name else area
        total += 2 * math.prod(shape) * pixels
        if name.endswith("to_q.weight"):  # scores and weighted values
            total += 4 * area * (area if ".attn1." in name else TOKENS) * shape[0]
    return total


def decoder_operations(shapes: Shapes, height: int, width: int) -> float:
    """Floating point operations of decoding latents of this size."""
    total = 0.0
    for name, shape in shapes.items():
        if name.startswith("decoder.") and len(shape) >= 2:
            total += 2 * math.prod(shape) * height * width * 4 ** _decoder_level(name, shapes)
    return total


def _pass_operations(found: Checkpoint, request: Request, height: int, width: int, share: float) -> float:
    """Of one run over latents of this size that takes a share of the steps."""
    guidance = str(request.guidance or found.family.guidance).partition(":")[0]
    cfg = found.family.cfg if request.cfg is None else request.cfg
    rows = 1 if cfg == 1 and guidance not in ROWS else ROWS.get(guidance, 2)
    steps = max(1, round((request.steps or found.family.steps) * share))
    sampler = str(request.sampler or found.family.sampler).partition(":")[0]
    rows *= 2 if request.reference else 1
    evaluations = steps * _evaluations_a_step(sampler) * rows
    unet, vae = _shapes(found.components["unet"]), _shapes(found.components["vae"])
    once = unet_operations(unet, height, width) + _control_operations(request, height, width)
    return evaluations * once + decoder_operations(vae, height, width)


def _control_operations(request: Request, height: int, width: int) -> float:
    """Of the ControlNets of a request in one evaluation, on average over the run; an adapter runs once a picture."""
    total = 0.0
    for use, file in _controls(request):
        if not file.is_adapter and use.weight:
            shapes = {
                name: shape for name, shape in _control_shapes(file).items() if name.startswith(_ENCODER)
            }
            total += (use.end - use.start) * unet_operations(shapes, height, width)
    return total


def _control_bytes(request: Request) -> float:
    """Of the weights of a request's control networks in float32."""
    shapes = (_control_shapes(file) for use, file in _controls(request) if use.weight)
    return 4.0 * sum(math.prod(shape) for own in shapes for shape in own.values())


def _controls(request: Request) -> list[tuple[ControlUse, ControlFile]]:
    uses = map(controls.parse, request.control)
    return [(use, control_file.read(Path(use.path))) for use in uses]


def _control_shapes(file: ControlFile) -> Shapes:
    names = (name for name in (*file.component.sources, *file.factors) if name.endswith("weight"))
    return {name: file.shape(name) for name in names}


def _evaluations_a_step(sampler: str) -> int:
    """1, or the factor in a sampler's fact `evaluations: 2 * steps - 1`."""
    fact = registry.describe("samplers", sampler).facts.get("evaluations", "")
    factor = fact.removeprefix(">= ").partition(" ")[0]
    return int(factor) if factor.isdigit() else 1


def _share_of_steps(found: Checkpoint, request: Request) -> float:
    if request.image is None or request.like == "comfyui":
        return 1.0
    return found.family.strength if request.strength is None else request.strength


def _latent_size(found: Checkpoint, request: Request) -> tuple[int, int]:
    """(height, width) of a request's latents; the model's own size where it has none."""
    levels = _levels(_shapes(found.components["vae"]), "decoder.up_blocks")
    factor = 2 ** (levels - 1) if levels else 8
    return (request.height or found.size) // factor, (request.width or found.size) // factor


def _weight_bytes(shapes: Shapes, request: Request) -> tuple[float, float]:
    """Of the weights of a U-Net as the request keeps them, and of those at hand where they are read layer by layer."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    at_work = 2 * max(sizes) * _width(request)  # the layer that runs, and the one before it
    if request.stream:
        return at_work, at_work
    kept = STORED_BYTES.get(request.store)
    return sum(sizes) * _width(request) if kept is None else sum(sizes) * kept + at_work, at_work


def _working_bytes(shapes: Shapes, area: float, request: Request) -> float:
    """Of the skip connections and the layers at work, for two rows of latents of this area."""
    levels = _levels(shapes, "down_blocks")
    outputs: list[float] = [
        shape[0] * area / 4 ** _unet_level(name, levels)
        for name, shape in shapes.items()
        if name.startswith("down_blocks") and name.endswith("conv2.weight")
    ]
    return _width(request) * 2 * (sum(outputs) + 6 * max(outputs, default=0.0))


def _width(request: Request) -> float:
    """Bytes of a number in a request's dtype; the most that it may be for auto."""
    return 2.0 if request.dtype in ("bfloat16", "float16") else 4.0


def _shapes(component: Component) -> Shapes:
    """The shapes of a network's weights; empty for a test model, which has no file."""
    if component.header is None:
        return {}
    names = (name for name in component.sources if name.endswith("weight"))
    return {name: tuple(component.shape(name)) for name in names}


def _levels(shapes: Iterable[str], blocks: str) -> int:
    """How many of these blocks a network has."""
    depth = blocks.count(".") + 1
    return 1 + max(
        (int(name.split(".")[depth]) for name in shapes if name.startswith(f"{blocks}.")), default=-1
    )


def _unet_level(name: str, levels: int) -> int:
    """How often the latents are halved where this weight works."""
    kind, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    if kind == "down_blocks":
        return int(number) + (".downsamplers." in name)
    if kind == "up_blocks":
        return levels - 1 - int(number) - (".upsamplers." in name)
    return levels - 1 if kind == "mid_block" else 0


def _decoder_level(name: str, shapes: Shapes) -> int:
    """How often the latents are doubled where this weight works."""
    if name.startswith("decoder.up_blocks."):
        return int(name.split(".")[2]) + (".upsamplers." in name)
    return _levels(shapes, "decoder.up_blocks") - 1 if name.startswith("decoder.conv_out") else 0


# --- the machine


def _speeds() -> dict[str, float]:
    """Operations a second, by `speed_key`; empty if nothing readable was remembered."""
    folder = cache_folder()
    try:
        values = json.loads((folder / "speeds.json").read_text(encoding="utf-8")) if folder else {}
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {key: float(value) for key, value in values.items() if _is_speed(value)}


def _is_speed(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e18


def _on_gpu(request: Request) -> bool:
    return request.device.startswith("cuda") or (request.device == "auto" and os.path.exists("/dev/nvidia0"))
