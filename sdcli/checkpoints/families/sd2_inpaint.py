from sdcli.checkpoints.families._shapes import OPEN_CLIP_H, unet2, vae
from sdcli.checkpoints.family import Family, TextEncoderUse, UNetSignature

sd2_inpaint = Family(
    name="sd2_inpaint",
    summary="Stable Diffusion 2.x inpainting: mask and masked picture as 5 more channels",
    signature=UNetSignature(channels=9, context=1024),
    configs={"text_encoder": OPEN_CLIP_H, "unet": unet2(9, 512), "vae": vae()},
    text_encoders={"text_encoder": TextEncoderUse(pad=0)},
    clip_skip=2,
    strength=1.0,
    pipeline="StableDiffusionInpaintPipeline",
)
