"""Training a word: only its vectors are learned, and prompts read them as the training did."""

import pytest
import torch

from sdcli.checkpoints import embedding_file
from sdcli.errors import UsageError
from sdcli.models.cache import ModelCache
from sdcli.pipeline.embeddings import learned
from sdcli.pipeline.text import encode_prompts
from sdcli.request.request import Request
from sdcli.train.captions import chunks_of, states_of
from sdcli.train.folder import Example
from sdcli.train.plan import make_plan
from sdcli.train.run import Loop, encode_example
from sdcli.train.trained import caption_with
from tests.train.folders import embedding_settings, train, write_pictures


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures", ((64, 64), (64, 64)))


@pytest.fixture
def loop(folder):
    def call(**settings):
        models = ModelCache()
        plan = make_plan(embedding_settings(folder, **settings), models)
        with models.use(plan.loading) as model:
            latents = [encode_example(plan, model, i) for i in range(len(plan.examples))]
            return Loop(plan, models, model, latents), model

    return call


@pytest.mark.parametrize(
    "name", ["test:sd1", pytest.param("test:sd2-v", marks=pytest.mark.slow), "test:sdxl"]
)
def test_a_prompt_reads_the_vectors_as_the_training_did(loop, name):
    training, model = loop(model=name, vectors=3, lr=0.1)
    first = {part: each.detach().clone() for part, each in training.trained.vectors.items()}
    list(training.run())
    path = str(training.settings.path)
    vectors = {part: {"<mine>": each.detach()} for part, each in training.trained.vectors.items()}
    for part, each in vectors.items():
        assert each["<mine>"].shape == first[part].shape == (3, 16)
        assert not torch.equal(each["<mine>"], first[part])
    with torch.no_grad():
        trained = states_of(model, chunks_of(model, "a cat and <mine>", {"<mine>": 3}), vectors)
    job = model.with_defaults(Request("a cat and <mine>", model=name, embedding=(path,)))
    (part,) = encode_prompts(model, job)[0].parts
    assert torch.equal(part.cond.context, trained.context)
    assert (part.cond.pooled is None) == (trained.pooled is None)
    assert trained.pooled is None or torch.equal(part.cond.pooled, trained.pooled)


@pytest.mark.parametrize("name", ["test:sd1", "test:sdxl"])
def test_gradients_reach_the_vectors_and_nothing_else(loop, name):
    training, model = loop(model=name)
    training._loss(0).backward()
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in training.parameters)
    for network in model.networks.values():
        assert all(each.grad is None for each in network.parameters())


def test_the_first_vectors_are_those_of_the_words_of_init(loop):
    training, model = loop(init="red apple", vectors=3)
    ids = model.tokenizers["text_encoder"].ids("red apple")
    table = model.text_encoder("text_encoder").embeddings.token_embedding.weight
    expected = table[[ids[0], ids[1], ids[0]]]
    assert torch.equal(training.trained.vectors["text_encoder"], expected)


def test_two_runs_give_the_same_bytes(folder, tmp_path):
    files = []
    for i in range(2):
        plan, _ = train(embedding_settings(folder, out=str(tmp_path / str(i) / "mine.safetensors")))
        files.append(plan.settings.path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("name", "out", "word", "keys", "trigger"),
    [
        ("test:sd1", "mine", "<mine>", {"clip": "emb_params"}, ""),
        ("test:sd1", "toy", "<mine>", {"clip": "<mine>"}, "<mine>"),
        ("test:sdxl", "mine", "mine", {"clip_l": "clip_l", "clip_g": "clip_g"}, ""),
    ],
)
def test_the_file_is_typed_as_the_word_that_was_trained(folder, name, out, word, keys, trigger):
    path = folder.parent / f"{out}.safetensors"
    plan, _ = train(embedding_settings(folder, model=name, word=word, out=str(path), steps=1))
    file = embedding_file.read_header(plan.settings.path)
    assert (dict(file.keys), file.trigger, file.vectors) == (keys, trigger, 1)
    with ModelCache().use(plan.loading) as model:
        assert word in learned(model, [str(path)]).counts


@pytest.mark.parametrize(
    ("caption", "is_named", "expected"),
    [
        ("a photo of <Mine> in the snow", False, "a photo of <Mine> in the snow"),
        ("a photo of a cat", False, "<mine>, a photo of a cat"),
        ("IMG", True, "<mine>"),
        ("", False, "<mine>"),
    ],
)
def test_a_caption_names_the_word(tmp_path, caption, is_named, expected):
    assert caption_with("<mine>", Example(tmp_path, caption, (1, 1), "", is_named)) == expected


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"word": None}, "--word is missing"),
        (
            {"model": "test:sdxl", "word": "<other>"},
            "is typed by its file's name; name it -o other.safetensors",
        ),
        ({"word": "v1.5"}, "choose a word such as <mine>"),
        ({"sample": ("a cat",)}, "does not name <mine>"),
    ],
)
def test_a_word_that_cannot_be_learned_is_refused(folder, settings, reason):
    with pytest.raises(UsageError, match=reason):
        make_plan(embedding_settings(folder, **settings), ModelCache())
