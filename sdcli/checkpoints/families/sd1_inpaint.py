from sdcli.checkpoints.families._shapes import CLIP_L, unet, vae
from sdcli.checkpoints.family import Family, UNetSignature

sd1_inpaint = Family(
    name="sd1_inpaint",
    summary="Stable Diffusion 1.x inpainting: mask and masked picture as 5 more channels",
    signature=UNetSignature(channels=9, context=768),
    configs={"text_encoder": CLIP_L, "unet": unet(9, 768, 512), "vae": vae()},
    strength=1.0,
    pipeline="StableDiffusionInpaintPipeline",
)
