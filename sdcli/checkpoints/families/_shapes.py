"""Shapes that several families share, as their published configs give them."""

from __future__ import annotations

from typing import Any

CLIP_L: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
OPEN_CLIP_H: dict[str, Any] = {  # 23 of its 24 layers: Stable Diffusion 2 reads the one before the last
    **CLIP_L,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 1024,
    "pad_token_id": 0,
}
OPEN_CLIP_G: dict[str, Any] = {
    **OPEN_CLIP_H,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "architectures": ["CLIPTextModelWithProjection"],
}


DPT_HYBRID: dict[str, Any] = {  # MiDaS' depth network: a ResNet of three stages, a transformer on its last
    "is_hybrid": True,
    "image_size": 384,
    "patch_size": 16,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-6,  # as it was trained; published folders say 1e-12, which is no visible difference
    "backbone_config": {
        "model_type": "bit",
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "embedding_size": 64,
        "hidden_sizes": [256, 512, 1024],
        "depths": [3, 4, 9],
        "num_groups": 32,
        "out_features": ["stage1", "stage2", "stage3"],
    },
    "backbone_featmap_shape": [1, 1024, 24, 24],
    "backbone_out_indices": [2, 5, 8, 11],
    "neck_ignore_stages": [0, 1],
    "neck_hidden_sizes": [256, 512, 768, 768],
    "reassemble_factors": [1, 1, 1, 0.5],
    "fusion_hidden_size": 256,
}


def unet(channels: int, context: int, size: int, **more: Any) -> dict[str, Any]:
    """The U-Net of Stable Diffusion 1 and 2: four levels, two resnets each, attention in the upper three."""
    base = {
        "in_channels": channels,
        "out_channels": 4,
        "sample_size": size // 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "cross_attention_dim": context,
        "attention_head_dim": 8,
    }
    return {**base, **more}


def unet2(channels: int, size: int, **more: Any) -> dict[str, Any]:
    """Stable Diffusion 2's: text of width 1024, heads of width 64, linear projections."""
    heads = {"attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
    return unet(channels, 1024, size, **{**heads, **more})


def unet_xl(channels: int, **more: Any) -> dict[str, Any]:
    """SDXL's: three levels, none, two and ten transformer blocks deep, sizes and pooled text in the time embedding."""
    base = {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    return unet(channels, 2048, 1024, **{**base, **more})


def vae(
    scaling: float = 0.18215, levels: tuple[int, ...] = (128, 256, 512, 512), size: int = 512
) -> dict[str, Any]:
    """The autoencoder of all of them; its factor is 2 to the number of levels less one."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": list(levels),
        "down_block_types": ["DownEncoderBlock2D"] * len(levels),
        "up_block_types": ["UpDecoderBlock2D"] * len(levels),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": size,
        "scaling_factor": scaling,
    }
