from sdcli.networks.family import Family, Traits

tiny = Family(
    name="tiny",
    summary="the embedded illustration model: text width 128",
    traits=Traits(channels=4, context=128),
    cfg=5.0,
)
