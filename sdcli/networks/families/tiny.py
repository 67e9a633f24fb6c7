from sdcli.networks.family import Family, Traits

tiny = Family(
    name="tiny",
    summary="the embedded illustration model: text width 128",
    traits=Traits(channels=4, context=128),
    size=512,
    cfg=4.0,
    sampler="er_sde",  # to the eye, what is drawn without new noise on the way has more stray specks
    schedule="leading",  # starts below its last level, pure noise, from where heun and its kin step too far
)
