from sdcli.checkpoints.families._shapes import OPEN_CLIP_H, unet2, vae
from sdcli.checkpoints.family import Family, TextEncoderUse, UNetSignature

x4_upscaler = Family(
    name="x4_upscaler",
    summary="Stable Diffusion x4 upscaler: the small picture as 3 more channels, its own VAE of factor 4",
    signature=UNetSignature(channels=7, context=1024),
    configs={
        "text_encoder": OPEN_CLIP_H,
        "unet": unet2(
            7,
            512,
            block_out_channels=[256, 512, 512, 1024],
            down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 3,
            up_block_types=["CrossAttnUpBlock2D"] * 3 + ["UpBlock2D"],
            attention_head_dim=8,
            only_cross_attention=[True, True, True, False],
            num_class_embeds=1000,
        ),
        "vae": vae(0.08333, (128, 256, 512)),
    },
    text_encoders={"text_encoder": TextEncoderUse(pad=0)},
    clip_skip=2,
    prediction="v_prediction",
    levels={"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"},
    strength=1.0,
    cfg=9.0,
    pipeline="StableDiffusionUpscalePipeline",
)
