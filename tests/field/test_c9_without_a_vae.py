"""C9 (Forge#512, dgenerate#62, stablepy#18): a checkpoint without a VAE was refused although --vae named one."""

import shutil

from tests.full_size import write
from tests.single_file import layout


def test_c9_a_single_file_without_a_vae_is_drawn_with_the_one_that_is_named(sd, written, toy):
    small, path = written("sd1")
    tensors = layout(small, small.configs)
    without = {key: shape for key, shape in tensors.items() if not key.startswith("first_stage_model.")}
    write(path, without)
    refused = sd("txt2img", "a cat", "-m", path)
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "no VAE in it; name one with --vae" in refused.err
    assert sd("info", path).err == refused.err
    assert sd("info", path, "--vae", toy).code == 0
    drawn = sd("txt2img", "a cat", "-m", path, "--vae", toy, "-s", 1, "-W", 64, "-H", 64)
    assert (drawn.code, drawn.err) == (0, "")


def test_c9_a_folder_without_a_vae_is_drawn_with_the_one_that_is_named(sd, toy, tmp_path):
    folder = shutil.copytree(toy, tmp_path / "x")
    shutil.rmtree(folder / "vae")
    refused = sd("txt2img", "a cat", "-m", folder)
    assert refused.code == 3
    assert "name one with --vae" in refused.err
    whole, drawn = (
        sd("txt2img", "a cat", "-m", model, "--vae", toy, "--seed", 1, "-s", 1, "-o", "-", "--no-metadata")
        for model in (toy, folder)
    )
    assert (drawn.code, drawn.err) == (0, "")
    assert drawn.out == whole.out
