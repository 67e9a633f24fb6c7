from sdcli.networks.families._shapes import CLIP_L, OPEN_CLIP_G, unet_xl, vae
from sdcli.networks.family import Family, Reader, Traits

sdxl_inpaint = Family(
    name="sdxl_inpaint",
    summary="SDXL inpainting: mask and masked picture as 5 more channels",
    traits=Traits(channels=9, context=2048, added=2816),
    configs={
        "text_encoder": CLIP_L,
        "text_encoder_2": OPEN_CLIP_G,
        "unet": unet_xl(9),
        "vae": vae(0.13025, size=1024),
    },
    readers={
        "text_encoder": Reader(layer=2, norm=False),
        "text_encoder_2": Reader(pad=0, layer=2, norm=False, pooled=True),
    },
    size=1024,
    zero_empty=True,
    cfg=5.0,
    strength=1.0,
)
