"""The networks of Stable Diffusion as plain torch modules: CLIP text encoders, the U-Net, the autoencoders.

Parameter names are those of diffusers and transformers, so their files load as they are.
"""
