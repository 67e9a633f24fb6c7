"""What must be equal on two machines, and how a worker tells that it is not."""

import dataclasses

import pytest

from sdcli.batch.executor import Drawn, Failed
from sdcli.batch.workers.drawing_actor import DrawingActor, Unfit
from sdcli.batch.workers.machine import file_digests, missing_or_other, model_digest, this_machine
from sdcli.request.request import Request
from tests import pictures
from tests.batch.batches import task


def test_a_machine_does_not_differ_from_itself_by_another_name():
    here = this_machine()
    assert here.difference(dataclasses.replace(here, name="elsewhere")) == ""


def test_a_difference_names_what_differs_and_both_values():
    here = dataclasses.replace(this_machine(), torch="2.9.1", gpu="A")
    assert (
        here.difference(dataclasses.replace(here, torch="2.9.0", gpu=""))
        == "torch is 2.9.0, not 2.9.1, gpu is none, not A"
    )


def test_the_files_of_a_request_are_all_that_it_names(tmp_path):
    names = (
        "in",
        "mask",
        "depth",
        "lora",
        "hyper",
        "control",
        "hint",
        "ip",
        "face",
        "enc",
        "region",
        "ref",
        "emb",
        "latents",
    )
    paths = {name: str(tmp_path / f"{name}.x") for name in names}
    for name, path in paths.items():
        (tmp_path / path).write_text(name)
    request = Request(
        prompt="a cat", image=paths["in"], mask=paths["mask"], depth=paths["depth"], embedding=(paths["emb"],),
        lora=(f"{paths['lora']}@0.5:te=0.2",), hypernet=(f"{paths['hyper']}@0.5",),
        control=(f"{paths['control']}:image={paths['hint']}:weight=0.8",),
        ip_adapter=(f"{paths['ip']}:image={paths['face']}:encoder={paths['enc']}",),
        region=(f"a dog@{paths['region']},0.5", "a hen@0,0,0.5,1"), reference=f"{paths['ref']}:fidelity=0.2",
        latents_in=paths["latents"],
    )  # fmt: skip
    assert set(file_digests(request)) == set(paths.values())
    assert missing_or_other(file_digests(request)) == ""


def test_a_file_that_is_missing_or_another_one_is_named(tmp_path):
    picture = tmp_path / "in.png"
    picture.write_bytes(b"a")
    expected = file_digests(Request(prompt="a cat", image=str(picture)))
    picture.write_bytes(b"b")
    assert missing_or_other(expected) == f"{picture} is another file there"
    picture.unlink()
    assert missing_or_other(expected) == f"{picture} is missing there"


def test_a_file_that_the_driver_lacks_too_is_the_failure_of_its_task():
    lacking = task(0, image="missing.png")
    files = file_digests(lacking.request)
    assert files == {"missing.png": ""}
    answer = DrawingActor(True).draw(lacking, "", files)
    assert isinstance(answer, Failed)
    assert answer.failure.kind == "image"


def test_a_worker_with_another_model_refuses_and_says_which():
    answer = DrawingActor(True).draw(task(0), "0" * 64, {})
    assert isinstance(answer, Unfit)
    assert "the model test:sd1 is another one there" in answer.reason
    assert answer.reason.endswith("copy it to the same path")


def test_a_worker_without_the_model_refuses_and_says_where_it_looked():
    answer = DrawingActor(True).draw(task(0, model="/models/none.safetensors"), "0" * 64, {})
    assert isinstance(answer, Unfit)
    assert "/models/none.safetensors" in answer.reason


def test_a_worker_without_the_picture_refuses():
    answer = DrawingActor(True).draw(task(0), "", {"only-there.png": "0" * 64})
    assert answer == Unfit("only-there.png is missing there; copy it to the same path")


def test_a_worker_with_the_same_files_draws(tmp_path):
    pictures.photo().save(tmp_path / "photo.png")
    drawn = task(0, image=str(tmp_path / "photo.png"))
    answer = DrawingActor(True).draw(drawn, model_digest(drawn.request.loading), file_digests(drawn.request))
    assert isinstance(answer, Drawn)


@pytest.mark.parametrize("text", ["-"])
def test_standard_input_is_no_file(text):
    assert file_digests(Request(prompt="a cat", image=text)) == {}
