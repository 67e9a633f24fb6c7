"""A ModelCache keeps one model, reads each header once, and lets threads take turns."""

import shutil
import threading

import pytest
from safetensors.torch import load_file, save_file

from sdcli.checkpoints import header
from sdcli.engine import generate
from sdcli.errors import ModelError
from sdcli.models.cache import ModelCache
from sdcli.request.request import Loading, Request


def test_equal_loadings_share_one_model():
    models = ModelCache()
    with models.use(Loading(model="test:sd1")) as first, models.use(Loading(model="test:sd1")) as second:
        assert first is second


@pytest.mark.parametrize("change", [{"model": "test:sd2"}, {"dtype": "bfloat16"}, {"prediction": "sample"}])
def test_another_loading_is_another_model(change):
    models = ModelCache()
    with models.use(Loading(model="test:sd1")) as first:
        pass
    with models.use(Loading(**{"model": "test:sd1", **change})) as second:
        assert first is not second


def test_caches_share_nothing():
    with (
        ModelCache().use(Loading(model="test:sd1")) as one,
        ModelCache().use(Loading(model="test:sd1")) as other,
    ):
        assert one is not other


def test_each_file_of_a_model_has_its_header_read_once_from_the_first_check_to_the_picture(toy, monkeypatch):
    read, real = [], header.read
    monkeypatch.setattr(header, "read", lambda path: read.append(path) or real(path))
    models, request = ModelCache(), Request("a cat", model=str(toy), seed=1, steps=1)
    models.checkpoint(request.loading)
    for seed in (1, 2):
        generate(request.replace(seed=seed), models)
    assert len(read) == len(set(read)) == 3


def test_a_bad_model_leaves_the_loaded_one_in_place(tmp_path):
    models = ModelCache()
    with models.use(Loading(model="test:sd1")) as model:
        pass
    with pytest.raises(ModelError), models.use(Loading(model=str(tmp_path))):
        pass
    with models.use(Loading(model="test:sd1")) as same:
        assert same is model


def test_a_file_that_is_mended_after_it_failed_to_load_is_read_anew(toy, tmp_path):
    folder, models = shutil.copytree(toy, tmp_path / "copy"), ModelCache()
    weights = next((folder / "unet").glob("*.safetensors"))
    whole = weights.read_bytes()
    tensors = load_file(weights)
    tensors["conv_in.bias"].fill_(float("nan"))
    save_file(tensors, weights)
    with pytest.raises(ModelError, match="not finite"), models.use(Loading(model=str(folder))):
        pass
    weights.write_bytes(whole)
    with models.use(Loading(model=str(folder))) as model:
        assert model.unet.conv_in.bias.isfinite().all()


def test_threads_that_share_a_cache_draw_what_each_would_draw_alone():
    """With two models and a texture, which changes the convolutions while it is drawn."""
    requests = [
        Request("a cat", model=model, seed=seed, steps=2, tile=tile)
        for seed, (model, tile) in enumerate(
            [("test:sd1", "none"), ("test:sd1", "both"), ("test:sd2", "none")] * 2
        )
    ]
    alone = [generate(request).picture.png() for request in requests]
    models, together = ModelCache(), [b""] * len(requests)

    def draw(i: int) -> None:
        together[i] = generate(requests[i], models).picture.png()

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
