"""A4: a folder's own words and padding are used (diffusers#672, #2182, #4153): `a <cat-toy>` is tokens 320 and 49408.

Version 0.1 read the word as pieces of CLIP's vocabulary and padded as the family does, whatever the folder said.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sdcli.checkpoints import checkpoint, tokenizer_folder
from sdcli.tokenizer import CHUNK, END, AddedWord, Tokenizer, vocabulary

WORD = "<cat-toy>"


def widened(toy: Path, folder: Path, rows: int = 1) -> Path:
    """A copy of the toy model whose text encoder knows more tokens than CLIP's, as after textual inversion."""
    shutil.copytree(toy, folder)
    (path,) = (folder / "text_encoder").glob("*.safetensors")
    tensors = load_file(path)
    (key,) = (key for key in tensors if key.endswith("token_embedding.weight"))
    more = torch.randn(rows, tensors[key].shape[1], generator=torch.Generator().manual_seed(1))
    save_file({**tensors, key: torch.cat([tensors[key], more])}, path)
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "vocab_size": 49408 + rows}))
    return folder


def write_tokenizer(folder: Path, files: dict[str, object], name: str = "tokenizer") -> None:
    """CLIP's tokenizer in the folder of a model, with these JSON files added or changed."""
    (folder / name).mkdir()
    for file, data in tokenizer_folder.contents(Tokenizer()).items():
        (folder / name / file).write_bytes(data)
    for file, content in files.items():
        path = folder / name / file
        content = {**json.loads(path.read_text()), **content} if path.exists() else content
        path.write_text(json.dumps(content))


def of(folder: Path) -> Tokenizer:
    return checkpoint.read(str(folder)).tokenizers["text_encoder"]


ENTRY = {"content": WORD, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens.json": {WORD: 49408}},
        {"tokenizer_config.json": {"added_tokens_decoder": {"49408": ENTRY}}},
        {
            "tokenizer.json": {
                "added_tokens": [{**ENTRY, "id": 49408}],
                "normalizer": None,
                "pre_tokenizer": None,
            }
        },
    ],
    ids=lambda files: next(iter(files)),
)
def test_a4_a_word_of_textual_inversion_is_one_token_whichever_file_holds_it(tmp_path, toy, files):
    folder = widened(toy, tmp_path / "model")
    if "tokenizer.json" in files:
        files["tokenizer.json"] |= {
            "normalizer": {"normalizers": [{"type": kind} for kind in ("NFC", "Replace", "Lowercase")]},
            "pre_tokenizer": {"pretokenizers": [{"type": kind} for kind in ("Split", "ByteLevel")]},
        }
    write_tokenizer(folder, files)
    assert of(folder).ids(f"a {WORD}") == [320, 49408]
    assert of(folder).ids(f"A{WORD.upper()}cat") == [320, 49408, 2368]


@pytest.fixture
def saved(tmp_path, toy):
    """A model folder with two words, whose tokenizer transformers has saved."""
    from transformers import CLIPTokenizer

    folder = widened(toy, tmp_path / "saved", 2)
    write_tokenizer(folder, {})
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens([WORD, "My Style"])
    shutil.rmtree(folder / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def test_a4_the_word_changes_the_picture_and_sd_info_names_it(sd, saved):
    pictures = []
    for prompt in (f"a {WORD}", "a my style", "a cat-toy"):
        ran = sd("txt2img", prompt, "-m", saved, "--seed", 1, "-s", 2, "--no-metadata", "-o", "x.png")
        assert ran.code == 0, ran.err
        pictures.append(Path(ran.lines[0]).read_bytes())
    assert len(set(pictures)) == 3
    assert f"added words: {WORD}, My Style" in sd("info", saved).out.decode()


@pytest.mark.filterwarnings("ignore")
def test_a4_conversion_keeps_the_words_and_the_number_of_tokens(sd, saved):
    from transformers import CLIPTextModel, CLIPTokenizer

    assert sd("models", "convert", saved, "copy").code == 0
    theirs = CLIPTokenizer.from_pretrained("copy/tokenizer")
    assert theirs(f"a {WORD}, my style", add_special_tokens=False).input_ids == [320, 49408, 267, 49409]
    assert CLIPTextModel.from_pretrained("copy/text_encoder").config.vocab_size == 49410
    assert of(Path("copy")) == of(saved)
    for model in (saved, "copy"):
        name = f"{Path(model).name}.png"
        ran = sd("txt2img", f"a {WORD}", "-m", model, "--seed", 1, "-s", 2, "--no-metadata", "-o", name)
        assert ran.code == 0, ran.err
    assert Path("saved.png").read_bytes() == Path("copy.png").read_bytes()


def test_a4_a_single_file_cannot_hold_the_words_and_the_refusal_names_them(sd, saved):
    ran = sd("models", "convert", saved, "x.safetensors")
    assert (ran.code, len(ran.err.splitlines()), Path("x.safetensors").exists()) == (3, 1, False)
    assert f"adds words ({WORD}, My Style)" in ran.err


def test_a4_a_long_prompt_is_cut_into_chunks_by_the_tokens_with_the_words(saved):
    chunks = of(saved).chunks(f"a {WORD} " * 60)
    assert [len(chunk) for chunk in chunks] == [CHUNK, 45]
    assert [token for chunk in chunks for token in chunk] == [320, 49408] * 60


def test_a4_a_long_prompt_draws_if_only_one_of_two_tokenizers_has_the_word(sd, written):
    _, path = written("sdxl")
    assert sd("models", "convert", path, "folder").code == 0
    config = Path("folder/tokenizer_2/tokenizer_config.json")
    entry = {"49406": {"content": "<|startoftext|>"}, "2368": {"content": "many many many many cats"}}
    config.write_text(json.dumps({**json.loads(config.read_text()), "added_tokens_decoder": entry}))
    assert sd("txt2img", "a cat", "-m", "folder", "-s", 1).code == 3  # another word has that token
    Path("folder/tokenizer_2/tokenizer_config.json").write_text("{}")
    Path("folder/tokenizer_2/vocab.json").unlink()
    assert sd("txt2img", "many cats " * 40, "-m", "folder", "-s", 1).code == 0


# --- padding


@pytest.mark.parametrize(
    ("config", "special", "pad"),
    [
        ({"pad_token": "!"}, {}, 49407),  # special_tokens_map.json still says the end token, and counts
        ({"pad_token": "<|endoftext|>"}, {"pad_token": "!"}, 0),  # as the published Stable Diffusion 2 has it
        ({"pad_token": {"__type": "AddedToken", "content": "!"}, "added_tokens_decoder": {}}, {}, 0),
        ({}, {"pad_token": {"content": "cat</w>"}}, 2368),
    ],
)
def test_a4_the_padding_is_the_one_that_transformers_reads_from_the_folder(
    tmp_path, toy, config, special, pad
):
    from transformers import CLIPTokenizer

    folder = Path(shutil.copytree(toy, tmp_path / "model"))
    write_tokenizer(folder, {"tokenizer_config.json": config, "special_tokens_map.json": special})
    assert of(folder).pad == pad == CLIPTokenizer.from_pretrained(folder / "tokenizer").pad_token_id


def test_a4_the_padding_changes_the_picture_and_is_kept_by_conversion(sd, tmp_path, toy):
    folder = Path(shutil.copytree(toy, tmp_path / "model"))
    write_tokenizer(folder, {"special_tokens_map.json": {"pad_token": "!"}})
    assert sd("models", "convert", folder, "copy").code == 0
    for name, model in (("a.png", toy), ("b.png", folder), ("c.png", "copy")):
        ran = sd("txt2img", "a cat", "-m", model, "--seed", 1, "-s", 2, "--no-metadata", "-o", name)
        assert ran.code == 0, ran.err
    plain, padded, copied = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert plain != padded == copied


# --- what is refused


def swapped(folder: Path) -> None:
    words = {**vocabulary(), "cat</w>": 1929, "dog</w>": 2368}
    (folder / "vocab.json").write_text(json.dumps(words))


def cut(folder: Path) -> None:
    lines = (folder / "merges.txt").read_text().split("\n")
    (folder / "merges.txt").write_text("\n".join(lines[:1000]))


@pytest.mark.parametrize(
    ("files", "change", "names"),
    [
        ({"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}}, None, "BertTokenizer"),
        ({"tokenizer_config.json": {"model_max_length": 256}}, None, "model_max_length 256"),
        ({"tokenizer_config.json": {"padding_side": "left"}}, None, "padding_side 'left'"),
        ({"tokenizer_config.json": {"bos_token": "<s>"}}, None, "bos_token '<s>'"),
        ({"tokenizer_config.json": {"sp_model_kwargs": {}}}, None, "sp_model_kwargs"),
        ({"special_tokens_map.json": {"pad_token": "<pad>"}}, None, "pad_token '<pad>'"),
        ({"special_tokens_map.json": {"additional_special_tokens": ["<sks>"]}}, None, "<sks>"),
        ({"added_tokens.json": {WORD: 49409}}, None, "49,408 tokens, and its tokenizer adds '<cat-toy>'"),
        ({"added_tokens.json": {WORD: 2368}}, None, "2368"),
        ({"added_tokens.json": {"cat</w>": 49408}}, None, "cat</w>"),
        ({"added_tokens.json": {WORD: "49408"}}, None, WORD),
        ({"added_tokens.json": {"": 49408}}, None, "without a text"),
        ({"tokenizer.json": {"model": {"type": "WordPiece"}}}, None, "tokenizer.json"),
        ({}, swapped, "'dog</w>' is token 2368"),
        ({}, cut, "merges"),
    ],
)  # fmt: skip
def test_a4_another_vocabulary_or_files_that_contradict_each_other_are_refused_by_name(
    sd, tmp_path, toy, files, change, names
):
    folder = Path(shutil.copytree(toy, tmp_path / "model"))
    write_tokenizer(folder, files)
    if change:
        change(folder / "tokenizer")
    for command in (("info", folder), ("txt2img", "a cat", "-m", folder, "-s", 1)):
        ran = sd(*command)
        assert (ran.code, len(ran.err.splitlines())) == (3, 1)
        assert names in ran.err


# --- any words


LETTERS = st.text(st.sampled_from("aBc<>-é1 !"), min_size=1, max_size=6).filter(
    lambda text: text.strip() == text
)


@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(LETTERS, min_size=1, max_size=3, unique_by=str.lower),
    text=st.text("aBc<>-é1 !,", max_size=30),
)
def test_a4_any_words_are_found_in_a_text_where_transformers_finds_them(tmp_path_factory, words, text):
    from transformers import CLIPTokenizer

    words = [word for word in words if word not in vocabulary()]
    ours = Tokenizer(END, tuple(AddedWord(word, 49408 + i) for i, word in enumerate(words)))
    folder = tmp_path_factory.mktemp("words")
    for name, data in tokenizer_folder.contents(ours).items():
        (folder / name).write_bytes(data)
    assert tokenizer_folder.read(folder, END) == ours
    theirs = CLIPTokenizer.from_pretrained(folder)
    text = f" {text} ".join(["", *words, ""])
    assert ours.ids(text) == theirs(text, add_special_tokens=False)["input_ids"]
