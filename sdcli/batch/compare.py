"""Compare: two files of one picture by their bytes, by their pixels, and by how they were made."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdcli.batch.comparison import Comparison, Verdict
from sdcli.batch.reasons import Facts, Reasons, explain_rounding, reasons, told
from sdcli.request.images import add_alpha, read_pixels
from sdcli.request.jobfile.batch_job import Tolerance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

UNEXPLAINED = "nothing that is recorded explains it"


@dataclass(frozen=True)
class Figures:
    """How far the values of two pictures of one size and mode are apart."""

    max: int  # largest difference of a value, of 255
    changed: float  # share of the pixels that differ, 0 … 1
    psnr: float  # decibels over all values of all pixels; infinite for equal ones

    def within(self, tolerance: Tolerance) -> bool:
        """True if no value is too far off, nor all of them together."""
        return self.max <= tolerance.max and self.psnr >= tolerance.psnr

    def __str__(self) -> str:
        return f"max {self.max}, {self.psnr:.1f} dB, {100 * self.changed:.3g} % of the pixels"


@dataclass(frozen=True)
class Pixels:
    """The pixels of a picture file, upright, and their colour profile."""

    image: Image  # L, LA, RGB, RGBA or CMYK
    icc: bytes | None

    @property
    def values(self) -> NDArray[np.uint8]:
        """All values, (height, width, channels)."""
        import numpy as np

        return np.asarray(self.image).reshape(self.image.height, self.image.width, -1)

    @property
    def sha256(self) -> str:
        """The hash of the values, row by row, in hex."""
        return hashlib.sha256(self.values.tobytes()).hexdigest()

    @property
    def shape(self) -> str:
        """`512x768 RGB`."""
        return f"{self.image.width}x{self.image.height} {self.image.mode}"


def pixels_of(data: bytes, name: str) -> Pixels:
    """The pixels of a picture file; raises ImageError, in which `name` stands for it."""
    file = read_pixels(io.BytesIO(data), name)
    image = file.colours if file.alpha is None else add_alpha(file.colours, file.alpha)
    return Pixels(image, file.icc)


def figures(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> Figures:
    """How far two pictures are apart; both are (height, width, channels)."""
    import numpy as np

    difference = np.abs(before.astype(np.int16) - now)
    changed = float(difference.any(axis=-1).mean())
    squares = int(np.square(difference, dtype=np.int32).sum(dtype=np.int64))
    psnr = 10 * math.log10(255**2 * difference.size / squares) if squares else math.inf
    return Figures(int(difference.max()), changed, psnr)


def compare(
    before: bytes, now: bytes, facts_before: Facts, facts_now: Facts, tolerance: Tolerance | None = None
) -> Comparison:
    """Compare the file of a picture with that of the picture made again; the facts are those of their metadata.

    Another rounding passes only if the facts explain it: it came from another machine, torch or number of threads, by
    the same arithmetic. Of lossy files, the decoded pixels are compared. Raises ImageError for a damaged file.
    """
    found = reasons(facts_before, facts_now)
    if before == now:
        return Comparison("identical", reasons=found)
    old, new = pixels_of(before, "the picture before"), pixels_of(now, "the picture now")
    if old.shape != new.shape:
        return _with_message("different", f"{old.shape} -> {new.shape}", found)
    if old.icc != new.icc:
        return _with_message("different", "another colour profile", found)
    return verdict(figures(old.values, new.values), found, tolerance or Tolerance())


def compare_hashes(
    before: tuple[str, str], now: tuple[str, str], facts_before: Facts, facts_now: Facts
) -> Comparison:
    """Compare pictures of which only (sha256, shape) are known: they are equal, or different by an unknown amount."""
    found = reasons(facts_before, facts_now)
    if before == now:
        return _with_message("same_pixels", "", found)
    shapes = f"{before[1]} -> {now[1]}" if before[1] != now[1] else "other pixels"
    return _with_message("different", shapes if found else f"{shapes}; {UNEXPLAINED}", found)


def verdict(apart: Figures, found: Reasons, tolerance: Tolerance) -> Comparison:
    """What figures and reasons mean together, for two pictures of which the files differ."""
    if apart.max == 0:
        return _with_message("same_pixels", "" if found else "only its metadata, or how it is encoded", found)
    is_rounding = explain_rounding(found)
    passes = is_rounding and apart.within(tolerance)
    message = str(apart)
    if not found:
        message += f"; {UNEXPLAINED}"
    elif is_rounding and not passes:
        message += f", more than rounding (max {tolerance.max}, {tolerance.psnr:g} dB)"
    return _with_message("rounding" if passes else "different", message, found, apart)


def _with_message(word: Verdict, message: str, found: Reasons, apart: Figures | None = None) -> Comparison:
    text = ": ".join(filter(None, (message, told(found))))
    if apart is None:
        return Comparison(word, reasons=found, message=text, is_measured=word == "same_pixels")
    return Comparison(word, apart.max, apart.changed, apart.psnr, found, text)
