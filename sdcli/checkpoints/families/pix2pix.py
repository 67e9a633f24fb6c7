from sdcli.checkpoints.families._shapes import CLIP_L, unet, vae
from sdcli.checkpoints.family import Family, UNetSignature

pix2pix = Family(
    name="pix2pix",
    summary="InstructPix2Pix: the picture to edit as 4 more channels",
    signature=UNetSignature(channels=8, context=768),
    configs={"text_encoder": CLIP_L, "unet": unet(8, 768, 512), "vae": vae()},
    guidance="pix2pix",
    strength=1.0,
    pipeline="StableDiffusionInstructPix2PixPipeline",
)
