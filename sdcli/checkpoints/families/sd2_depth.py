from sdcli.checkpoints.families._shapes import DPT_HYBRID, OPEN_CLIP_H, unet2, vae
from sdcli.checkpoints.family import Family, TextEncoderUse, UNetSignature

sd2_depth = Family(
    name="sd2_depth",
    summary="Stable Diffusion 2 depth: a depth map as one more channel",
    signature=UNetSignature(channels=5, context=1024),
    configs={
        "text_encoder": OPEN_CLIP_H,
        "unet": unet2(5, 512),
        "vae": vae(),
        "depth_estimator": DPT_HYBRID,
    },
    text_encoders={"text_encoder": TextEncoderUse(pad=0)},
    clip_skip=2,
    strength=0.8,
    pipeline="StableDiffusionDepth2ImgPipeline",
)
