from sdcli.checkpoints.families._shapes import OPEN_CLIP_H, unet2, vae
from sdcli.checkpoints.family import Family, TextEncoderUse, UNetSignature

sd2 = Family(
    name="sd2",
    summary="Stable Diffusion 2.x: OpenCLIP ViT-H, predicts epsilon (512) or v (768)",
    signature=UNetSignature(channels=4, context=1024),
    configs={"text_encoder": OPEN_CLIP_H, "unet": unet2(4, 512), "vae": vae()},
    text_encoders={"text_encoder": TextEncoderUse(pad=0)},
    clip_skip=2,
)
