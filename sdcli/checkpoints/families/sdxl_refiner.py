from sdcli.checkpoints.families._shapes import OPEN_CLIP_G, unet_xl, vae
from sdcli.checkpoints.family import Family, TextEncoderUse, UNetSignature

sdxl_refiner = Family(
    name="sdxl_refiner",
    summary="SDXL refiner: OpenCLIP ViT-bigG, told the size and an aesthetic score",
    signature=UNetSignature(channels=4, context=1280, added=2560),
    configs={
        "text_encoder_2": OPEN_CLIP_G,
        "unet": unet_xl(
            4,
            cross_attention_dim=1280,
            block_out_channels=[384, 768, 1536, 1536],
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            transformer_layers_per_block=4,
            attention_head_dim=[6, 12, 24, 24],
            projection_class_embeddings_input_dim=2560,
        ),
        "vae": vae(0.13025, size=1024),
    },
    text_encoders={"text_encoder_2": TextEncoderUse(pad=0, layer=2, norm=False, pooled=True)},
    clip_skip=2,
    emphasis="no_norm",
    size=1024,
    aesthetic=(6.0, 2.5),
    cfg=5.0,
    pipeline="StableDiffusionXLImg2ImgPipeline",
)
