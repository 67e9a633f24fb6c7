"""Embeddings: the textual inversions that a request's prompts name, among the files given and those of a folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from sdcli.checkpoints import network_config
from sdcli.checkpoints.checkpoint import Checkpoint
from sdcli.checkpoints.embedding_file import (
    ONE,
    PAIR,
    PICKLE_SUFFIXES,
    EmbeddingFile,
    bundled,
    models_of,
    pickled,
    read_header,
)
from sdcli.checkpoints.named_files import files_in
from sdcli.errors import ModelError, UsageError
from sdcli.request.prepare import PROMPTS
from sdcli.request.prompt.embeddings import SUFFIX, Prefixed, Tokens
from sdcli.request.prompt.emphases import EMPHASIS_OF
from sdcli.request.request import Request


def with_embeddings(request: Request, folders: Sequence[Path] = ()) -> Request:
    """The request that a picture records: it lists all the embeddings that its prompts name.

    They are its own and those in the folders, if there are any; a prompt that is read as it is typed takes none from
    there. Raises UsageError and ModelError as `named` does.
    """
    folders = () if _emphasis(request) == "none" else folders
    found = named(_texts(request), request.embedding, folders, _emphasis(request) == "comfyui")
    return request if found == request.embedding else request.replace(embedding=found)


def still_named(request: Request) -> Request:
    """A recorded request whose prompts were changed, without the embeddings that they do not name any more."""
    still = tuple(
        path for path in request.embedding if occurs(_texts(request), path, _emphasis(request) == "comfyui")
    )
    return request if still == request.embedding else request.replace(embedding=still)


def _texts(request: Request) -> list[str]:
    return [*(getattr(request, name) or "" for name in PROMPTS), *request.region]


def _emphasis(request: Request) -> str | None:
    """The emphasis, as far as it is known without the model: with comfyui, embeddings are typed behind `embedding:`."""
    return request.emphasis or EMPHASIS_OF.get(request.like)


def named(
    texts: Sequence[str], files: Sequence[str], folders: Sequence[Path], prefixed: bool = False
) -> tuple[str, ...]:
    """The paths of the embeddings that the prompts may name: all the `files`, and those of the folders.

    A name is found as its tokens, so in any case and within other words, as A1111 finds it. If `prefixed`, it is found
    behind `embedding:` alone, as in ComfyUI. Of the files in the folders, only those that are named are opened.
    Raises UsageError for a file that no prompt names, for two of one name, and for an `embedding:name` that there is
    not; ModelError for a file that is named and cannot be used.
    """
    given = _given(files)
    occur = Prefixed(texts) if prefixed else Tokens(texts)
    for file in given.values():
        if not any(map(occur, spellings(file))):
            word = f"embedding:{file.name}" if prefixed else file.trigger or file.name
            raise UsageError(f"--embedding {file.path}: no prompt names it; write {word} where it belongs")
    found = {
        name: paths
        for name, paths in _in_folders(folders).items()
        if name.casefold() not in given and occur(name)
    }
    for name, paths in found.items():
        given[name.casefold()] = read_header(_one_of(name, paths))
    if isinstance(occur, Prefixed):
        known = [spelling for file in given.values() for spelling in spellings(file)]
        occur.check_known(known, [*_in_folders(folders), *(file.name for file in given.values())])
    return tuple(str(file.path) for file in given.values())


def occurs(texts: Sequence[str], path: str, prefixed: bool = False) -> bool:
    """True if the texts name the embedding in this file, or if the file cannot be used, so that it cannot be told."""
    try:
        file = read_header(Path(path))
    except ModelError:
        return True
    return any(map(Prefixed(texts) if prefixed else Tokens(texts), spellings(file)))


def spelled(files: Iterable[str], bundles: Iterable[str] = ()) -> dict[str, EmbeddingFile]:
    """Each way in which the embeddings in these files are typed -> the embedding; raises ModelError.

    `bundles` are LoRA files, which may hold embeddings as well; a file of the same name counts before those.
    """
    given = _given(files)
    for path in dict.fromkeys(bundles):
        for file in bundled(Path(path)):
            given.setdefault(file.name.casefold(), file)
    return {spelling: file for file in given.values() for spelling in spellings(file)}


def spellings(file: EmbeddingFile) -> tuple[str, ...]:
    """How an embedding is typed: by the file's name, in angle brackets too, or by the word that the file names."""
    own = (file.name, f"<{file.name}>", f"{file.name}{SUFFIX}")
    return tuple(dict.fromkeys((*own, file.trigger) if file.trigger else own))


def _given(files: Iterable[str]) -> dict[str, EmbeddingFile]:
    """The embeddings in these files by their names; raises UsageError if two have one name."""
    given: dict[str, EmbeddingFile] = {}
    for path in dict.fromkeys(files):
        file = read_header(Path(path))
        other = given.setdefault(file.name.casefold(), file)
        if other is not file:
            raise UsageError(f"--embedding {path}: {other.path} has the same name; rename one of them")
    return given


def _in_folders(folders: Sequence[Path]) -> dict[str, list[Path]]:
    return files_in(folders, (SUFFIX, *PICKLE_SUFFIXES))


def _one_of(name: str, paths: Sequence[Path]) -> Path:
    """The one safetensors file of these; raises UsageError or ModelError if there is none, or another."""
    usable = [path for path in paths if path.suffix.lower() == SUFFIX]
    if not usable:
        raise pickled(paths[0])
    if len(usable) > 1:
        raise UsageError(
            f"{name} is named, and is both {usable[0]} and {usable[1]}; name one with --embedding"
        )
    return usable[0]


def counts(files: Mapping[str, EmbeddingFile]) -> dict[str, int]:
    """How many vectors each spelling stands for."""
    return {spelling: file.vectors for spelling, file in files.items()}


def check_fit(found: Checkpoint, paths: Sequence[str], bundles: Sequence[str] = ()) -> None:
    """Raise ModelError for an embedding that a model's text encoders cannot read; no networks need to be loaded."""
    if not paths and not bundles:
        return
    widths = {
        part: int(network_config.settings(part, found.components[part].config)["hidden_size"])
        for part in found.family.text_encoders
    }
    check_widths(found.name, widths, spelled(paths, bundles).values())


def check_widths(name: str, widths: Mapping[str, int], files: Collection[EmbeddingFile]) -> None:
    """Raise ModelError for an embedding that has other widths than the text encoders of the model of this name."""
    for file in files:
        fits = all(file.widths.get(part_of(part, file)) == width for part, width in widths.items())
        is_whole = len(file.widths) == len(widths) or set(widths) == {"text_encoder_2"}  # SDXL's refiner
        if not fits or not is_whole:
            own, other = _described(file.widths.values()), _described(widths.values())
            advice = models_of(*widths.values()) or "it"
            raise ModelError(
                f"{file.path} is an embedding of {own}, and {name} reads {other}; use one trained for {advice}"
            )


def part_of(part: str, file: EmbeddingFile) -> str:
    """The part of the file that a text encoder reads."""
    return ONE if ONE in file.widths else PAIR[part == "text_encoder_2"]


def _described(widths: Collection[int]) -> str:
    """`768 values a word (SD 1)`."""
    models = models_of(*widths)
    return f"{' and '.join(map(str, widths))} values a word" + (f" ({models})" if models else "")
