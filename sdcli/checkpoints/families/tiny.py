from sdcli.checkpoints.family import Family, UNetSignature

tiny = Family(
    name="tiny",
    summary="the embedded illustration model: text width 128",
    signature=UNetSignature(channels=4, context=128),
    size=512,
    cfg=4.0,
    own_sampling=True,
    schedule="leading",  # starts below its last level, pure noise, from where heun and its kin step too far
)
