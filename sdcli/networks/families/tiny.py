from sdcli.networks.family import Configs, Family


def _recognises(configs: Configs) -> bool:
    unet = configs["unet"]
    return unet.get("in_channels") == 4 and unet.get("cross_attention_dim") == 128


tiny = Family(
    name="tiny",
    summary="the embedded illustration model: text width 128, 4 input channels",
    recognises=_recognises,
    steps=20,
    cfg=5.0,
    sampler="dpmpp_2m",
    schedule="karras",
)
