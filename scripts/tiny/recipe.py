"""Every choice that makes the embedded model, in one place: folders, styles, widths, rates and seeds."""

import os
from pathlib import Path

WORK = Path(os.environ.get("TINY_WORK", "build/tiny"))  # everything the stages write; safe to delete
DATA = WORK / "data"  # what download.py fetched
HERE = Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "sdcli" / "tiny"  # where export.py puts the finished model

NAMES = "npm/x/unicode-emoji-json-0.9.0/package/data-by-emoji.json"  # in DATA
CONCEPTS = os.environ.get(
    "TINY_CONCEPTS", "core"
)  # core: 200 things people type; all: every emoji with a name too

# -- pictures ---------------------------------------------------------------------------------------------------
SIZE = 512  # pixels; latents are SIZE / 8
DRAWN, SPRITE = 576, 448  # pixels: at which a drawing is rendered, and of the stored sprite, cropped to its alpha box
STYLES = {  # training style -> the words for it in captions
    "fluent-emoji": ("3d render", "glossy icon", "3d illustration"),
    "fluent-emoji-flat": ("flat illustration", "flat design", "vector art"),
    "noto": ("cartoon", "cartoon drawing", "sticker"),
    "fluent-emoji-high-contrast": ("black and white line art", "line art", "black and white drawing"),
}
PIXELS = "pixels"  # a style made of the others
STYLES[PIXELS] = ("pixel art", "8-bit pixel art")
LINES = "fluent-emoji-high-contrast"  # always black on white
UNSAID = "fluent-emoji-flat"  # the style of every caption that names none: one picture per word is learned fastest
HELD_OUT = ("noto-v1", "fluent-3d")  # used for the VAE and the judge, never for the UNet
VAE_STYLES = ("fluent-emoji-flat", "noto", "noto-v1")  # fast to render: the VAE is trained on every picture of these
BACKGROUNDS = {  # name -> RGB; white is drawn most often and never named
    "red": (214, 48, 49),
    "orange": (245, 146, 54),
    "yellow": (250, 216, 74),
    "green": (76, 175, 90),
    "blue": (64, 120, 214),
    "purple": (138, 84, 190),
    "pink": (248, 160, 196),
    "brown": (133, 92, 62),
    "black": (16, 16, 18),
    "grey": (150, 152, 156),
    "light blue": (170, 214, 245),
    "light green": (184, 228, 176),
}

# -- the bank: kinds of picture, and how often each training sprite appears in each ------------------------------------
DRESSES = {
    "white": 1,
    "colour": 2,
    "recoloured": 1,
    "small": 1,
    "small_recoloured": 2,
    "large": 1,
    "scene": 1,
    "pixels": 1,
}
CAPTIONS = 16  # of every picture
PART = 0.8125  # of the picture's width; one pose for all, aligned with the latents: moved things took longest to learn
SIZES = {  # size -> its words, and the fraction of the width
    "small": (("small", "little", "tiny"), 0.4375),
    "large": (("large", "big", "huge"), 0.96875),
}
TWICE = ("fluent-emoji-flat",)  # styles drawn twice as often as the others

# -- autoencoder ------------------------------------------------------------------------------------------------
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (16, 32, 64, 112),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "mid_block_add_attention": False,
    "sample_size": SIZE,
    "scaling_factor": 1.0,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
VAE_MINUTES, VAE_RATE = 13.0, 2e-3
VAE_SIZE = 256  # pixels of the pictures that crops are cut from
DECODER_MINUTES, DECODER_RATE = 25.0, 1.5e-4  # then the decoder alone, on whole pictures
DECODER_NOISE = 0.05  # noise on the latents, because the UNet's are not perfect either
VAE_CROPS, VAE_LATE_CROPS = (
    (16, 64),
    (6, 128),
)  # (pictures per step, pixels): small to learn fast, then nearer to the real size

# -- text encoder -----------------------------------------------------------------------------------------------
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 128,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
TEXT_MINUTES, TEXT_RATE, TEXT_BATCH = 3.0, 1.5e-3, 256

# -- UNet -------------------------------------------------------------------------------------------------------
UNET = {
    "sample_size": SIZE // 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64, 96, 160, 256),
    "layers_per_block": (1, 2, 2, 1, 1),
    "norm_num_groups": 8,
    "attention_head_dim": (1, 1, 2, 5, 8),  # diffusers: the NUMBER of heads
    "down_block_types": ("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",) * 2,
    "cross_attention_dim": 128,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "resnet_time_scale_shift": "scale_shift",
}
UNET_MINUTES = 120.0
UNET_RATE, UNET_ATTENTION_RATE = 3e-4, 8e-4  # of the attention blocks, some of which are new
UNET_BATCH, UNET_BATCH_CUDA = 16, 256
UNET_WORKERS = 4  # at most so many processes on a CPU, one per core
UNET_FALL = 0.4  # fraction of the time over which the learning rate falls
UNET_MIX = {
    "white": 0.16,
    "colour": 0.14,
    "recoloured": 0.08,
    "small": 0.05,
    "large": 0.02,
    "scene": 0.03,
    "pixels": 0.05,
    "two": 0.38,
    "placed": 0.05,
    "counted": 0.04,
}
UNET_NOISIEST, UNET_NOISY = (
    0.75,
    0.45,
)  # where the noisiest timesteps begin, of 1; fraction of all timesteps drawn from there
TEACHER = WORK / "teacher"  # a model that draws two of one thing: grow.py copies it there
UNET_TAUGHT = 150_000  # pictures, while these weights fall to nothing:
UNET_FEATURES, UNET_MAPS, UNET_POOLED = 0.3, 0.5, 1.0  # features, maps and pooled vectors (listening.py)
UNET_TAUGHT_FROM = 550  # the timestep above which features are compared: below it, a picture shows what is where
UNET_MUTED = 0.2  # fraction of the pictures of one thing whose pooled vector is partly hidden
UNET_EMPTY = 0.1  # fraction of the captions left empty, for classifier-free guidance
UNET_AVERAGE = 0.998  # decay of the running average per step
UNET_SAVE = 10.0  # minutes between saves, each with a line of `curve.csv`
UNET_LOOK = 120.0  # minutes between contact sheets, each with a short judging
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,  # else a silhouette is visible at every noise level, and words are not needed
}
SEED = 7
