from sdcli.networks.families._shapes import OPEN_CLIP_H, unet2, vae
from sdcli.networks.family import Family, Reader, Traits

sd2 = Family(
    name="sd2",
    summary="Stable Diffusion 2.x: OpenCLIP ViT-H, predicts epsilon (512) or v (768)",
    traits=Traits(channels=4, context=1024),
    configs={"text_encoder": OPEN_CLIP_H, "unet": unet2(4, 512), "vae": vae()},
    readers={"text_encoder": Reader(pad=0)},
)
