"""Conventions: pipelines that diffusers saved, with networks of any width, open and draw here, or are refused by name.

Version 0.1 knew families by the text's width alone: 32, as in diffusers' own tests, was "a network of no known family".
"""

from pathlib import Path

import pytest
import torch
from PIL import Image

from sdcli.checkpoints import tokenizer_folder
from sdcli.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")
FOUR_LEVELS = {
    "block_out_channels": [32, 32, 64, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


class Parts:
    """The components of pipelines as diffusers' own tests make them: text of width 32, U-Nets of two levels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tokenizer(self, pad: int = 49407):
        from transformers import CLIPTokenizer

        path = self.folder / f"tokenizer-{pad}"
        path.mkdir()
        for name, data in tokenizer_folder.contents(Tokenizer(pad)).items():
            (path / name).write_bytes(data)
        return CLIPTokenizer.from_pretrained(path)

    def text(self, projects: bool = False, **settings):
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        usual = {
            "vocab_size": 49408, "hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 5,
            "num_attention_heads": 4, "projection_dim": 32, "bos_token_id": 49406, "eos_token_id": 49407,
        }  # fmt: skip
        kind = CLIPTextModelWithProjection if projects else CLIPTextModel
        return kind(CLIPTextConfig(**{**usual, **settings}))

    def unet(self, **settings):
        from diffusers import UNet2DConditionModel

        usual = {
            "block_out_channels": (32, 64), "layers_per_block": 2, "sample_size": 32, "cross_attention_dim": 32,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        }  # fmt: skip
        return UNet2DConditionModel(**{**usual, **settings})

    def unet_xl(self, **settings):
        usual = {
            "attention_head_dim": (2, 4), "use_linear_projection": True, "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8, "transformer_layers_per_block": (1, 2), "cross_attention_dim": 64,
            "projection_class_embeddings_input_dim": 80,
        }  # fmt: skip
        return self.unet(**{**usual, **settings})

    def vae(self, **settings):
        from diffusers import AutoencoderKL

        usual = {
            "block_out_channels": [32, 64], "latent_channels": 4,
            "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
        }  # fmt: skip
        return AutoencoderKL(**{**usual, **settings})

    def scheduler(self):
        from diffusers import DDIMScheduler

        return DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )

    def depth(self):
        from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

        stages = {"hidden_sizes": [96, 192, 384], "depths": [1, 1, 1], "num_groups": 2}
        config = DPTConfig(
            is_hybrid=True, image_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=37, backbone_out_indices=(0, 1, 2, 3), backbone_featmap_shape=[1, 384, 4, 4],
            neck_hidden_sizes=[96, 192, 32, 32],
            backbone_config={
                "layer_type": "bottleneck", "global_padding": "same", "embedding_dynamic_padding": True,
                "out_features": ["stage1", "stage2", "stage3"], **stages,
            },
        )  # fmt: skip
        processor = DPTImageProcessor(size={"height": 64, "width": 64})
        return {"depth_estimator": DPTForDepthEstimation(config), "feature_extractor": processor}

    def sd(self, **parts):
        usual = {
            "text_encoder": self.text(),
            "tokenizer": self.tokenizer(),
            "vae": self.vae(),
            "unet": self.unet(),
        }
        return {
            **usual,
            "scheduler": self.scheduler(),
            "safety_checker": None,
            "feature_extractor": None,
            **parts,
        }

    def xl(self, **parts):
        usual = {
            "text_encoder": self.text(hidden_act="gelu"), "tokenizer": self.tokenizer(), "vae": self.vae(),
            "text_encoder_2": self.text(True, hidden_act="gelu"), "tokenizer_2": self.tokenizer(0),
        }  # fmt: skip
        return {**usual, "unet": self.unet_xl(), "scheduler": self.scheduler(), **parts}


def depth_parts(p: Parts):
    parts = {**p.sd(unet=p.unet(in_channels=5), vae=p.vae(**FOUR_LEVELS)), **p.depth()}
    return {name: part for name, part in parts.items() if name != "safety_checker"}


def upscaler_parts(p: Parts):
    from diffusers import DDPMScheduler

    three = {key: value[1:] for key, value in FOUR_LEVELS.items()}
    unet = p.unet(in_channels=7, num_class_embeds=1000)
    return {**p.sd(unet=unet, vae=p.vae(**three)), "low_res_scheduler": DDPMScheduler()}


def refiner_parts(p: Parts):
    unet = p.unet_xl(cross_attention_dim=32, projection_class_embeddings_input_dim=72)
    return {**p.xl(unet=unet, text_encoder=None, tokenizer=None), "requires_aesthetics_score": True}


def sd2_parts(p: Parts):
    unet = p.unet(attention_head_dim=(2, 4), use_linear_projection=True)
    return p.sd(text_encoder=p.text(hidden_act="gelu"), tokenizer=p.tokenizer(0), unet=unet)


OVER = ("-i", "in.png")
MASKED = ("inpaint", "a cat", *OVER, "--mask", "mask.png")
SIZE = ("-W", "64", "-H", "64")
KINDS = {
    "sd1": ("StableDiffusionPipeline", lambda p: p.sd(), ("txt2img", "a cat", *SIZE), "sd1"),
    "sd1 of factor 8": (
        "StableDiffusionPipeline", lambda p: p.sd(vae=p.vae(**FOUR_LEVELS)), ("txt2img", "a cat"), "sd1",
    ),
    "sd2": ("StableDiffusionPipeline", sd2_parts, ("txt2img", "a cat", *SIZE), "sd2"),
    "img2img": ("StableDiffusionImg2ImgPipeline", lambda p: p.sd(), ("img2img", "a cat", *OVER), "sd1"),
    "inpaint": ("StableDiffusionInpaintPipeline", lambda p: p.sd(unet=p.unet(in_channels=9)), MASKED, "sd1_inpaint"),
    "inpaint, plain": ("StableDiffusionInpaintPipeline", lambda p: p.sd(), MASKED, "sd1"),
    "pix2pix": (
        "StableDiffusionInstructPix2PixPipeline", lambda p: p.sd(unet=p.unet(in_channels=8)),
        ("img2img", "a cat", *OVER), "pix2pix",
    ),
    "depth": ("StableDiffusionDepth2ImgPipeline", depth_parts, ("depth2img", "a cat", *OVER), "sd2_depth"),
    "x4": ("StableDiffusionUpscalePipeline", upscaler_parts, ("upscale", "in.png"), "x4_upscaler"),
    "sdxl": ("StableDiffusionXLPipeline", lambda p: p.xl(), ("txt2img", "a cat", *SIZE), "sdxl"),
    "sdxl img2img": ("StableDiffusionXLImg2ImgPipeline", lambda p: p.xl(), ("img2img", "a cat", *OVER), "sdxl"),
    "sdxl inpaint": (
        "StableDiffusionXLInpaintPipeline", lambda p: p.xl(unet=p.unet_xl(in_channels=9)), MASKED, "sdxl_inpaint",
    ),
    "refiner": (
        "StableDiffusionXLImg2ImgPipeline", refiner_parts, ("img2img", "a cat", *OVER), "sdxl_refiner",
    ),
}  # fmt: skip
"""Kind -> (class of the pipeline, its parts, a command that draws with it, the family)."""


@pytest.fixture
def save(tmp_path):
    """Save a pipeline of a kind: save("sd1", "folder", variant="fp16")."""
    import diffusers

    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "in.png")
    Image.linear_gradient("L").resize((64, 64)).point(lambda v: 255 * (v > 127)).save(tmp_path / "mask.png")

    def write(kind: str, **folders: dict) -> None:
        name, parts, *_ = KINDS[kind]
        (tmp_path / "tokenizers").mkdir()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            pipe = getattr(diffusers, name)(**parts(Parts(tmp_path / "tokenizers")))
        for folder, options in folders.items():
            pipe.save_pretrained(tmp_path / folder, **options)

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_conventions_a_pipeline_that_diffusers_saved_opens_draws_and_converts(sd, save, kind):
    from diffusers import DiffusionPipeline

    save(kind, folder={})
    pipeline, _, command, family = KINDS[kind]
    assert f"folder: a {family} model" in sd("info", "folder").out.decode()
    ran = sd(*command, "-m", "folder", "--seed", 1, "-s", 2)
    assert ran.code == 0, ran.err
    assert sd("models", "convert", "folder", "copy").code == 0
    assert type(DiffusionPipeline.from_pretrained("copy")).__name__ == pipeline


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_conventions_a_variant_and_shards_of_a_pipeline_draw_the_same_picture(sd, save, kind):
    save(kind, whole={}, half={"variant": "fp16"}, shards={"max_shard_size": "100KB"})
    assert list(Path("shards/unet").glob("*-of-*.safetensors"))
    pictures = set()
    for folder in ("whole", "half", "shards"):
        ran = sd(*KINDS[kind][2], "-m", folder, "--seed", 1, "-s", 2, "--no-metadata", "-o", f"{folder}.png")
        assert ran.code == 0, ran.err
        pictures.add(Path(ran.lines[0]).read_bytes())
    assert len(pictures) == 1


def test_conventions_a_pipeline_of_another_kind_is_refused_by_its_name(sd, save, tmp_path):
    save("sd1", folder={})
    index = tmp_path / "folder" / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "AltDiffusionPipeline"))
    ran = sd("info", "folder")
    assert (ran.code, len(ran.err.splitlines())) == (3, 1)
    assert "AltDiffusionPipeline" in ran.err
