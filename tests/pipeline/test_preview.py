"""A preview is a picture of the latents' size that resembles what the VAE makes of them."""

import numpy as np
import torch
from PIL import Image

from sdcli.models.load import load
from sdcli.pipeline import vae
from sdcli.pipeline.preview import preview


def test_a_preview_resembles_the_decoded_picture(toy):
    model = load(str(toy), "cpu", "float32")
    patches = torch.randn(1, 4, 4, 5, generator=torch.Generator().manual_seed(5))
    z = patches.repeat_interleave(4, -1).repeat_interleave(4, -2)
    soft = preview(model, z)
    assert soft.size == (20, 16)
    sharp = vae.decode(model, z)[0].resize(soft.size, Image.Resampling.BOX)
    one, other = (np.asarray(image, np.float64).ravel() for image in (soft, sharp))
    assert np.corrcoef(one, other)[0, 1] > 0.6
