"""A5 (model-mixer#178), A6 (qDiffusion#16, sdnext#3319, sd.cpp#325), C14 (A1111#13052): what a file predicts.

Stale metadata won over the tensor v_pred; the yaml beside a file was not read; zero terminal SNR had no option.
"""

import pytest

from sdcli.checkpoints import checkpoint
from sdcli.diffusion.levels import Levels
from sdcli.errors import ModelError
from tests.checkpoints.test_checkpoint import published, write

YAML = "model:\n  target: ldm.LatentDiffusion\n  params:\n    linear_start: 0.00085\n    linear_end: 0.0120\n"


def test_a5_the_tensor_v_pred_wins_over_stale_metadata(tmp_path):
    tensors = published("sdxl-base") | {"v_pred": [0], "ztsnr": [0]}
    path = write(tmp_path / "x.safetensors", tensors, metadata={"modelspec.prediction_type": "epsilon"})
    found = checkpoint.read(str(path))
    assert found.prediction == "v_prediction"
    assert "metadata says epsilon" in found.prediction_from


@pytest.mark.parametrize("metadata", [{"modelspec.prediction_type": "epsilon"}, {}])
def test_a5_zero_terminal_snr_without_a_prediction_that_goes_with_it_is_refused(tmp_path, metadata):
    tensors = published("sdxl-base") | {"ztsnr": [0]}
    path = write(tmp_path / "x.safetensors", tensors, metadata=metadata)
    with pytest.raises(ModelError, match=r"ztsnr.*epsilon, by"):
        checkpoint.read(str(path))
    assert checkpoint.read(str(path), prediction="v_prediction").levels.sigma_max > 1000


def test_a6_the_yaml_beside_a_file_says_v(tmp_path):
    path = write(tmp_path / "x.safetensors", published("sd15"))
    assert checkpoint.read(str(path)).prediction == "epsilon"
    (tmp_path / "x.yaml").write_text(YAML + '    parameterization: "v"\n')
    found = checkpoint.read(str(path))
    assert (found.prediction, found.prediction_from) == ("v_prediction", "the yaml beside it")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("parameterization: w", "parameterization 'w' is not known"),
        ("beta_schedule: cosine", "beta_schedule cosine"),
        ("scale_factor: 0.5", "scale_factor 0.5"),
        ("unet_config: {params: {context_dim: 1024}}", "context_dim 1024"),
        ("bad: [", "cannot be read as YAML"),
    ],
)
def test_a6_a_yaml_that_does_not_fit_is_refused_by_its_key(tmp_path, line, words):
    path = write(tmp_path / "x.safetensors", published("sd15"))
    (tmp_path / "x.yaml").write_text(YAML + f"    {line}\n")
    with pytest.raises(ModelError, match=words):
        checkpoint.read(str(path))


def test_a6_a_yaml_and_metadata_that_contradict_each_other_are_both_named(tmp_path):
    path = write(
        tmp_path / "x.safetensors", published("sd15"), metadata={"modelspec.prediction_type": "epsilon"}
    )
    (tmp_path / "x.yaml").write_text(YAML + "    parameterization: v\n")
    with pytest.raises(ModelError, match=r"yaml beside it says v_prediction, .* metadata says epsilon"):
        checkpoint.read(str(path))


def test_c14_ztsnr_rescales_the_levels(sd, tmp_path):
    assert checkpoint.read("test:sd1", ztsnr=True).levels == Levels.scaled_linear().rescaled()
    with_it = sd("txt2img", "x", "-m", "test:sd1", "--steps", 2, "--seed", 1, "--ztsnr", "-o", "a.png")
    without = sd("txt2img", "x", "-m", "test:sd1", "--steps", 2, "--seed", 1, "-o", "b.png")
    assert (with_it.code, without.code) == (0, 0)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
