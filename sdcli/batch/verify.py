"""Verify: make pictures again from their metadata, by the same means, and compare them with their files."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from sdcli.batch.compare import compare, pixels_of
from sdcli.batch.comparison import Comparison
from sdcli.batch.reasons import Facts
from sdcli.checkpoints import lookup
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.preflight import preflight
from sdcli.checkpoints.recorded import recorded as with_all_found
from sdcli.errors import ImageError, ModelError, SdError, UsageError
from sdcli.estimate import estimate
from sdcli.models.cache import ModelCache
from sdcli.request.encode import Encoding
from sdcli.request.images import read_file
from sdcli.request.inputs import open_inputs
from sdcli.request.other_tools.recognise import recognise
from sdcli.request.picture import Picture, encoding_of
from sdcli.request.png_metadata import read_png_metadata
from sdcli.request.request import Loading, Request

if TYPE_CHECKING:
    from sdcli.result import Watcher

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
"""Pillow's name of a format that sd writes -> the suffix of such files."""
MAX_THREADS = 1024
LOADING = ("model", "revision", "device", "dtype", "store", "threads")
"""Fields of a request that may be pinned for a machine, and are recorded as they were."""
LEFT_OPEN = "standard input, which is not kept"

Enlarger = Callable[[Request], Callable[[], Picture]]
"""Checks a request that enlarges a picture by an upscaler file -> what makes the picture."""


@dataclass(frozen=True)
class RecordedPicture:
    """A picture file and what its metadata say of how it was made."""

    path: str  # - for standard input
    request: Request
    facts: Facts
    encoding: Encoding
    data: bytes | None = None  # of the file, if it cannot be read again

    def read(self) -> bytes:
        """The bytes of the file; raises ImageError."""
        return read_file(self.path, self.path)[0] if self.data is None else self.data


@dataclass(frozen=True)
class Verified:
    """A picture that was verified. `before` and `now` are the files' bytes, where it could be made again."""

    path: str
    comparison: Comparison
    error: SdError | None = None  # why it could not be made again
    before: bytes = b""
    now: bytes = b""

    def passes(self, strict: bool) -> bool:
        """True if it is the same picture; if strict, only if its file is the same."""
        return self.comparison.verdict == "identical" if strict else self.comparison.passes


def read_picture(path: str, stdin: BinaryIO | None = None) -> RecordedPicture:
    """What a picture file records; raises ImageError if that is not enough to make it again, or it is damaged."""
    name = "standard input" if path == "-" else path
    if path == "-" and stdin is None:
        raise UsageError("the picture is standard input, which cannot be read here; name a file")
    data, format = read_file(stdin if path == "-" and stdin is not None else path, name)
    metadata = read_png_metadata(io.BytesIO(data), name)
    if "sd" not in metadata.texts and (other := recognise(metadata.texts, (metadata.width, metadata.height))):
        raise ImageError(f"{name}: was made by {other.tool}, which sd cannot repeat to the bit; try sd again")
    facts, request = metadata.facts(name), metadata.request(name)
    if format not in SUFFIXES:
        raise ImageError(
            f"{name}: is a {format}, which sd does not write; verify the file that it was made from"
        )
    pixels_of(data, name)  # raises for a picture that is cut short
    recorded = {**facts, "request": request.as_record()}
    kept = data if path == "-" else None
    return RecordedPicture(path, request, recorded, _encoding(format, facts, request), kept)


def _encoding(format: str, facts: Facts, request: Request) -> Encoding:
    """How the file was encoded: a lossy one records its quality; a file saved anew may hold that of another format."""
    suffix, quality = SUFFIXES[format], facts.get("quality")
    is_known = type(quality) is int and 1 <= quality <= 100 and format != "PNG"
    return encoding_of(suffix, quality if is_known else None, request)


def request_to_draw(picture: RecordedPicture, given: Mapping[str, Any]) -> Request:
    """The request that makes the picture again with the recorded threads, device and dtype; those given go first.

    A picture that was made on a CPU is made there again. One that was made on a GPU is made where its request asks for.
    """
    facts = picture.facts
    pinned: dict[str, Any] = {}
    threads = facts.get("threads")
    if type(threads) is int and 1 <= threads <= MAX_THREADS:
        pinned["threads"] = threads
    if facts.get("device") == "cpu":
        pinned["device"] = "cpu"
        if facts.get("dtype") in ("float32", "bfloat16"):
            pinned["dtype"] = facts["dtype"]
    if "model" in given:
        pinned["revision"] = None  # the recorded one is of another repo
    return picture.request.replace(**{**pinned, **given})


def verify(
    paths: Sequence[str],
    given: Mapping[str, Any],
    enlarger: Enlarger,
    watch: Callable[[str], Watcher] | None = None,
    stdin: BinaryIO | None = None,
    allow_slow: bool = False,
) -> Iterator[Verified]:
    """Make each picture again and compare it with its file. Those by one model come together, so it is loaded once.

    `given` are fields of a request (model, device, threads) instead of the recorded ones. Pictures that cannot be made
    again come first, as far as it is known before torch is imported. Raises UsageError for a bad value that is given.
    """
    Loading(**given)  # raises for a value that no picture can be drawn with
    verifier = _Verifier(given, enlarger, watch or (lambda path: iter), stdin, allow_slow)
    read = [verifier.read(path) for path in paths]
    yield from (each for each in read if isinstance(each, Verified))
    pictures = _by_model([each for each in read if isinstance(each, tuple)])
    checked = [(picture, verifier.check(picture, request)) for picture, request in pictures]
    yield from (each for _, each in checked if isinstance(each, Verified))
    for picture, request in checked:
        if isinstance(request, Request):
            yield verifier.verify(picture, request)


@dataclass
class _Verifier:
    """Verifies one picture after another; the model stays loaded for the next one."""

    given: Mapping[str, Any]
    enlarger: Enlarger
    watch: Callable[[str], Watcher]
    stdin: BinaryIO | None
    allow_slow: bool

    def __post_init__(self) -> None:
        self.models = ModelCache()

    def read(self, path: str) -> tuple[RecordedPicture, Request] | Verified:
        """A picture, and the request to draw."""
        try:
            picture = read_picture(path, self.stdin)
            return picture, request_to_draw(picture, self.given)
        except SdError as error:
            return _failed(path, error)

    def check(self, picture: RecordedPicture, request: Request) -> Request | Verified:
        """The request to draw, with its model and adapters found, if files and headers do not tell that it fails."""
        try:
            _check_inputs_are_files(request)
            if "upscaler" in picture.facts:
                self.enlarger(request)
                return request
            request = with_all_found(request)
            found, request = self._find(request, picture.facts)
            inputs = open_inputs(request)
            preflight(found, request, inputs, picture.encoding)
            if not self.allow_slow:
                _check_speed(found, inputs.fill_in_size(request))
            return request
        except SdError as error:
            return _failed(picture.path, error)

    def verify(self, picture: RecordedPicture, request: Request) -> Verified:
        """Draw the picture and compare it."""
        try:
            drawn = self._draw(picture, request)
            as_recorded = {name: getattr(picture.request, name) for name in LOADING}
            drawn = dataclasses.replace(drawn, request=drawn.request.replace(**as_recorded))
            facts = {**drawn.facts_in(picture.encoding), "request": drawn.request.as_record()}
            before, now = picture.read(), drawn.encoded(picture.encoding)
            return Verified(picture.path, compare(before, now, picture.facts, facts), None, before, now)
        except SdError as error:
            if error.kind == "memory":
                self.models.unload()
            return _failed(picture.path, error)

    def _draw(self, picture: RecordedPicture, request: Request) -> Picture:
        if "upscaler" in picture.facts:
            return self.enlarger(request)()

        from sdcli.engine import generate

        return generate(request, self.models, self.watch(picture.path)).picture

    def _find(self, request: Request, facts: Facts) -> tuple[Checkpoint, Request]:
        """The model by its headers; one that was moved into a model folder is found by its hash."""
        try:
            return self.models.checkpoint(request.loading), request
        except ModelError:
            moved = (
                None
                if "model" in self.given or os.path.exists(request.model)
                else lookup.moved(request.model, facts)
            )
            if moved is None:
                raise
            request = request.replace(model=moved)
            return self.models.checkpoint(request.loading), request


def _check_speed(found: Checkpoint, request: Request) -> None:
    """Raise an SdError for a picture that would take hours, or more memory than there is."""
    expected = estimate(found, request)
    if expected is not None:
        expected.check(f"{request.width or found.size}x{request.height or found.size}")


def _check_inputs_are_files(request: Request) -> None:
    """Raise ImageError for a picture that was drawn from one on standard input, of which only the hash is known."""
    for role in ("image", "mask", "depth"):
        if getattr(request, role) == "-":
            raise ImageError(f"its {role} was {LEFT_OPEN}; compare it with what sd again --{role} FILE makes")


def _by_model(pictures: list[tuple[RecordedPicture, Request]]) -> list[tuple[RecordedPicture, Request]]:
    """Those that share a loaded model together, else in their order."""
    first: dict[object, int] = {}
    for _, request in pictures:
        first.setdefault(request.loading, len(first))
    return sorted(pictures, key=lambda each: first[each[1].loading])


def _failed(path: str, error: SdError) -> Verified:
    return Verified(path, Comparison("failed", message=str(error), is_measured=False), error)
