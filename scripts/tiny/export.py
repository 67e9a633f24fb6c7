"""Put the finished model into a diffusers folder, in half precision: `python export.py [FOLDER]`."""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel

import recipe

PARTS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": [
        None,
        None,
    ],  # the package has a tokenizer; `sd models convert tiny FOLDER` writes it into a folder
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def main(target: Path = recipe.TARGET) -> None:
    total = 0
    for part, kind in PARTS.items():
        network = kind.from_pretrained(recipe.WORK / part).half()
        for name, value in network.state_dict().items():
            if not torch.isfinite(value).all():
                raise ValueError(f"{part}: {name} is not finite in half precision")
        network.save_pretrained(target / part)
        config = target / part / "config.json"
        values = json.loads(config.read_text())
        values.pop("_name_or_path", None)  # it holds a path of this machine
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
        for file in (target / part).iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner can read
            total += file.stat().st_size
    DDIMScheduler(**recipe.SCHEDULE).save_pretrained(target / "scheduler")
    (target / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
    print(f"{target}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
