from dataclasses import replace

from sdcli.checkpoints.families._shapes import unet_xl
from sdcli.checkpoints.families.sdxl import sdxl
from sdcli.checkpoints.family import UNetSignature

sdxl_inpaint = replace(
    sdxl,
    name="sdxl_inpaint",
    summary="SDXL inpainting: mask and masked picture as 5 more channels",
    signature=UNetSignature(channels=9, context=2048, added=2816),
    configs={**sdxl.configs, "unet": unet_xl(9)},
    strength=1.0,
    pipeline="StableDiffusionXLInpaintPipeline",
)
