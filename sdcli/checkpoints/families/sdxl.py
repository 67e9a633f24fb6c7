from sdcli.checkpoints.families._shapes import CLIP_L, OPEN_CLIP_G, unet_xl, vae
from sdcli.checkpoints.family import Family, TextEncoderUse, UNetSignature

sdxl = Family(
    name="sdxl",
    summary="SDXL base: CLIP ViT-L and OpenCLIP ViT-bigG, told the size of the picture",
    signature=UNetSignature(channels=4, context=2048, added=2816),
    configs={
        "text_encoder": CLIP_L,
        "text_encoder_2": OPEN_CLIP_G,
        "unet": unet_xl(4),
        "vae": vae(0.13025, size=1024),
    },
    text_encoders={
        "text_encoder": TextEncoderUse(layer=2, norm=False),
        "text_encoder_2": TextEncoderUse(pad=0, layer=2, norm=False, pooled=True),
    },
    clip_skip=2,
    emphasis="no_norm",
    size=1024,
    zero_empty=True,
    cfg=5.0,
    pipeline="StableDiffusionXLPipeline",
)
