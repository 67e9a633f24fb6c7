"""Option sets: random but meaningful options of a drawing command on a toy model, for tests that draw twice."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from sdcli import registry
from sdcli.checkpoints import toy
from tests import control_files, embeddings
from tests.adapters import loras

MODELS = ["test:sd1", "test:sd1", "test:sd1", "test:sd2-v", "test:sdxl"]
CHOICES = {  # option -> its values; each set has some of them
    "--negative": ["blue", "(blue:1.3), grey", ""],
    "--cfg": [1, 3.5, 7, 12],
    "--sampler": [*registry.names("samplers"), "euler_a:eta=0.5", "dpmpp_2m_sde:heun=true"],
    "--schedule": list(registry.names("schedules")),
    "--guidance": ["cfg", "cfg_rescale", "apg", "perp_neg", "cfg_interval", "pag"],
    "--clip-skip": [1, 2],
    "--emphasis": ["a1111", "no_norm", "comfyui", "compel", "none"],
    "--like": ["a1111", "comfyui", "diffusers", "compvis"],
    "--rng": ["torch", "philox", "comfyui_cpu"],
    "--variation-seed": ["3 --variation-strength 0.2"],
    "--tile": ["both", "x"],
    "--freeu": ["auto,by=block"],
    "--tome": [0.5],
    "--deepcache": [2],
    "--lora": ["style.safetensors@0.7", "style.safetensors@0.8:0-0.5"],
    "--seed-size": ["128x64"],
    "--region": ["a dog@0,0,0.5,1", "a dog@mask.png,0.5"],
    "--reference": ["in.png", "in.png:fidelity=0.5:mode=adain"],
    "--control": [
        "canny.safetensors:image=in.png:weight=0.8",
        "canny.safetensors:image=in.png:annotate=canny",
    ],
    "--embedding": ["token.safetensors"],
    "--stop-after": [1],
    "--prompt-2": ["a drawing"],
    "--ztsnr": [None],
    "--sigmas": ["10,3,1"],
    "--threads": [1, 2],
    "--dtype": ["float32", "bfloat16"],
    "--store": ["bf16", "fp8"],
    "--stream": [None],
}
FORMATS = [
    ["out.png"],
    ["out.jpg"],
    ["out.jpg", "--quality", 80],
    ["out.webp"],
    ["out.webp", "--quality", 70],
]
PROMPTS = ["a cat", "a (red:1.2) cat", "{red|blue} cat", "a [cat:dog:0.5]", "a cat AND a dog", ""]


def write_files(folder: Path) -> None:
    """The files that option sets name: a picture, a mask, a LoRA, a control network and an embedding."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "in.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    mask.save(folder / "mask.png")
    loras.write(folder / "style.safetensors")
    control_files.write(folder / "canny.safetensors", control_files.as_ldm(control_files.weights("test:sd1")))
    width = toy.family("test:sd1")[0].configs["text_encoder"]["hidden_size"]
    embeddings.a1111(folder / "token.safetensors", width=width)


def option_set(seed: int) -> list[object]:
    """The arguments of one drawing command, without where its picture goes; some sets are refused."""
    chance = random.Random(seed)
    prompt = chance.choice(PROMPTS)
    command = chance.choice(["txt2img", "txt2img", "img2img", "inpaint"])
    arguments: list[object] = [command, prompt] if prompt else [command, "--unconditional"]
    arguments += [
        "-m",
        chance.choice(MODELS),
        "--seed",
        chance.randrange(2**32),
        "--steps",
        chance.randint(1, 4),
        "-q",
    ]
    if command == "txt2img":
        arguments += ["-W", chance.choice([64, 72]), "-H", 64, *chance.choice([[], [], ["--hires", 1.5]])]
    else:
        arguments += ["-i", "in.png", "--strength", chance.choice([0.3, 0.6, 1])]
    if command == "inpaint":
        arguments += [
            "--mask",
            "mask.png",
            *chance.choice([[], ["--only-masked"], ["--masked-content", "fill"]]),
        ]
    for option in chance.sample(list(CHOICES), chance.randint(0, 6)):
        value = chance.choice(CHOICES[option])
        values = [] if value is None else value.split(" ") if option == "--variation-seed" else [value]
        arguments += [option, *values]
    if "--embedding" in arguments:
        arguments[1] = "a token cat"
    if "--sigmas" in arguments:
        arguments[arguments.index("--steps") + 1] = 3
    return [*arguments, "-o", *chance.choice(FORMATS)]
