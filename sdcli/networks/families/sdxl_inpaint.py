from dataclasses import replace

from sdcli.networks.families._shapes import unet_xl
from sdcli.networks.families.sdxl import sdxl
from sdcli.networks.family import Traits

sdxl_inpaint = replace(
    sdxl,
    name="sdxl_inpaint",
    summary="SDXL inpainting: mask and masked picture as 5 more channels",
    traits=Traits(channels=9, context=2048, added=2816),
    configs={**sdxl.configs, "unet": unet_xl(9)},
    strength=1.0,
    pipeline="StableDiffusionXLInpaintPipeline",
)
