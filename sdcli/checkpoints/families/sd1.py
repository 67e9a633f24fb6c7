from sdcli.checkpoints.families._shapes import CLIP_L, unet, vae
from sdcli.checkpoints.family import Family, UNetSignature

sd1 = Family(
    name="sd1",
    summary="Stable Diffusion 1.x: CLIP ViT-L/14, predicts epsilon",
    signature=UNetSignature(channels=4, context=768),
    configs={"text_encoder": CLIP_L, "unet": unet(4, 768, 512), "vae": vae()},
)
