from sdcli.networks.family import Configs, Family


def _recognises(configs: Configs) -> bool:
    unet = configs["unet"]
    return unet.get("in_channels") == 4 and unet.get("cross_attention_dim") == 768


sd1 = Family(
    name="sd1",
    summary="Stable Diffusion 1.x: CLIP ViT-L/14, text width 768, 4 input channels",
    recognises=_recognises,
    steps=20,
    cfg=7.0,
    sampler="dpmpp_2m",
    schedule="karras",
)
