"""Carry the training to a machine without a network and back, in files of at most 15 MiB.

    python carry.py out FOLDER [unet]    pack what `sprites` and the stages after it need, or what `unet` made
    python carry.py in FOLDER            unpack it into the work folder

Networks are carried in half precision. The optimizer is not carried: `unet.py` starts a new one with a new warm-up.
"""

import io
import sys
import tarfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

import recipe
from sprites import ICONIFY

PART = 15 * 2**20
CARRIED = "carried.pt"


def out(folder: Path, only: str = "") -> None:
    """Write `carried-00`, `carried-01` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = torch.load(recipe.WORK / "unet.pt", map_location="cpu")
    networks = saved["average"]  # the UNet, and the text encoder if it was trained with it
    paths = [recipe.WORK / CARRIED]
    if only != "unet":
        networks = {
            "text_encoder": CLIPTextModel.from_pretrained(recipe.WORK / "text_encoder").state_dict(),
            "vae": AutoencoderKL.from_pretrained(recipe.WORK / "vae").state_dict(),
            **networks,
        }
        paths += [recipe.DATA / recipe.NAMES]
        paths += [ICONIFY / f"{style}.json" for style in recipe.STYLES if style != recipe.PIXELS]
    halves = {part: {name: value.half() for name, value in state.items()} for part, state in networks.items()}
    torch.save(
        {"networks": halves, "progress": saved["progress"], "judged": saved.get("judged", [])}, paths[0]
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=3) as archive:
        for path in paths:
            archive.add(path, path.relative_to(recipe.WORK))
    whole = packed.getvalue()
    for number, start in enumerate(range(0, len(whole), PART)):
        (folder / f"carried-{number:02}").write_bytes(whole[start : start + PART])
    print(f"{len(whole) / 2**20:.1f} MiB in {number + 1} files")


def into(folder: Path) -> None:
    """Unpack the files and write the `unet.pt` from which `unet.py` continues."""
    whole = b"".join(part.read_bytes() for part in sorted(folder.glob("carried-*")))
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.extractall(recipe.WORK, filter="data")
    saved = torch.load(recipe.WORK / CARRIED)
    states = {
        part: {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        for part, state in saved.pop("networks").items()
    }
    learned = {part: states[part] for part in ("unet", "text_encoder") if part in states}
    more = {"networks": learned, "average": learned, "fresh": saved["progress"][1]}
    torch.save({**saved, **more}, recipe.WORK / "unet.pt")
    made = {"vae": AutoencoderKL(**recipe.VAE), "text_encoder": CLIPTextModel(CLIPTextConfig(**recipe.TEXT))}
    for part in made.keys() & states:
        made[part].load_state_dict(states[part])
        made[part].save_pretrained(recipe.WORK / part)
    (recipe.WORK / "sheets").mkdir(exist_ok=True)


if __name__ == "__main__":
    {"out": out, "in": into}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
