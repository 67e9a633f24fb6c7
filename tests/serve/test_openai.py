"""OpenAI's API: its own client, the command line's bytes, and nothing ignored."""

import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image

from tests.serve.running import LONG

openai = pytest.importorskip("openai")

SIZE = "64x64"
FEW = {"seed": 7, "steps": 2}
TYPED = ("--seed", 7, "--steps", 2, "--width", 64, "--height", 64)


def bytes_of(item) -> bytes:
    return base64.b64decode(item.b64_json)


def drawn(sd, tmp_path, *arguments) -> bytes:
    """The file that the command line saves."""
    ran = sd(*arguments, "-q")
    assert ran.code == 0, ran.err
    return (tmp_path / ran.lines[0]).read_bytes()


def photo(tmp_path, mode="RGB", name="photo.png"):
    """A file with a picture of 64x64 pixels; with alpha, its left half is transparent."""
    channels = len(mode)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = 255
        pixels[:, :32, 3] = 0
    Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path / name


def test_the_pictures_are_those_of_the_command_line_and_their_seeds_are_told(client, sd, tmp_path):
    answer = client.images.generate(prompt="a red apple", size=SIZE, n=2, extra_body=FEW)
    sd("txt2img", "a red apple", *TYPED, "--count", 2, "-q")
    files = [(tmp_path / f"a-red-apple-{seed}.png").read_bytes() for seed in (7, 8)]
    assert [bytes_of(item) for item in answer.data] == files
    assert [item.seed for item in answer.data] == [7, 8]
    assert answer.size == SIZE


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ({"num_inference_steps": 3}, ["--steps", 3]),
        ({"steps": 2, "cfg_scale": 5.5}, ["-s", 2, "--cfg", 5.5]),
        ({"steps": 2, "guidance_scale": 3}, ["-s", 2, "--cfg", 3]),
        ({"steps": 2, "negative_prompt": "a blue car"}, ["-s", 2, "-n", "a blue car"]),
        ({"steps": 2, "sampler": "Euler a"}, ["-s", 2, "--sampler", "euler_a"]),
        ({"steps": 2, "sampler_name": "DPM++ 2M Karras"}, ["-s", 2, "--sampler", "DPM++ 2M Karras"]),
        ({"steps": 2, "clip_skip": 2, "tile": "x"}, ["-s", 2, "--clip-skip", 2, "--tile", "x"]),
        ({"steps": 2, "like": "comfyui"}, ["-s", 2, "--like", "comfyui"]),
    ],
)  # fmt: skip
def test_every_field_of_a_request_can_be_asked_for(client, sd, tmp_path, words, typed):
    answer = client.images.generate(prompt="a red apple", size=SIZE, extra_body={"seed": 7, **words})
    typed = (*TYPED[:2], *TYPED[4:], *typed)
    assert bytes_of(answer.data[0]) == drawn(sd, tmp_path, "txt2img", "a red apple", *typed)


def test_without_a_seed_each_picture_is_another_one_whose_seed_makes_it_again(client):
    first, second = (
        client.images.generate(prompt="a cat", size=SIZE, extra_body={"steps": 1}).data[0] for _ in range(2)
    )
    assert first.seed != second.seed
    again = client.images.generate(prompt="a cat", size=SIZE, extra_body={"steps": 1, "seed": first.seed})
    assert bytes_of(again.data[0]) == bytes_of(first)


def test_other_formats_are_those_of_the_command_line(client, sd, tmp_path):
    answer = client.images.generate(
        prompt="a cat", size=SIZE, output_format="webp", output_compression=80, extra_body=FEW
    )
    assert answer.output_format == "webp"
    assert bytes_of(answer.data[0]) == drawn(
        sd, tmp_path, "txt2img", "a cat", *TYPED, "--format", "webp", "--quality", 80
    )


def test_an_url_is_the_picture_itself(client):
    answer = client.images.generate(prompt="a cat", size=SIZE, response_format="url", extra_body=FEW)
    assert answer.data[0].url.startswith("data:image/png;base64,")


def test_partial_pictures_come_before_the_finished_one(client):
    events = list(
        client.images.generate(
            prompt="a cat", size=SIZE, stream=True, partial_images=2, extra_body={**FEW, "steps": 6}
        )
    )
    assert [event.type.rpartition(".")[2] for event in events] == [
        "partial_image",
        "partial_image",
        "completed",
    ]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    for event in events:
        assert Image.open(io.BytesIO(bytes_of(event))).size == (64, 64)
    whole = client.images.generate(prompt="a cat", size=SIZE, extra_body={**FEW, "steps": 6})
    assert bytes_of(events[-1]) == bytes_of(whole.data[0])


def test_an_edit_is_what_img2img_draws(client, sd, tmp_path):
    path = photo(tmp_path)
    answer = client.images.edit(image=path, prompt="a red apple", extra_body={**FEW, "strength": 0.5})
    typed = ("img2img", "a red apple", *TYPED[:4], "--strength", 0.5, "-i", "-", "-q")
    ran = sd(*typed, stdin=path.read_bytes())
    assert bytes_of(answer.data[0]) == (tmp_path / ran.lines[0]).read_bytes()


def test_the_transparent_part_of_a_mask_is_what_is_edited(client, tmp_path):
    path = photo(tmp_path)
    mask = photo(tmp_path, "RGBA", "mask.png")
    answer = client.images.edit(
        image=path, mask=mask, prompt="a red apple", extra_body={**FEW, "mask_blur": 0}
    )
    before, after = (
        np.asarray(Image.open(each).convert("RGB")) for each in (path, io.BytesIO(bytes_of(answer.data[0])))
    )
    assert (after[:, 32:] == before[:, 32:]).all()
    assert (after[:, :32] != before[:, :32]).any(axis=2).mean() > 0.9


def test_the_transparent_part_of_the_picture_is_edited_if_there_is_no_mask(client, tmp_path):
    path = photo(tmp_path, "RGBA")
    answer = client.images.edit(image=[path], prompt="a red apple", extra_body={**FEW, "mask_blur": 0})
    before, after = (
        np.asarray(Image.open(each).convert("RGB")) for each in (path, io.BytesIO(bytes_of(answer.data[0])))
    )
    assert (after[:, 32:] == before[:, 32:]).all()


def test_a_streamed_edit_has_the_events_of_an_edit(client, tmp_path):
    stream = client.images.edit(image=photo(tmp_path), prompt="a cat", stream=True, extra_body=FEW)
    assert [event.type for event in stream] == ["image_edit.completed"]


def test_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"
    assert client.models.retrieve("tiny").defaults == {
        "width": 512, "height": 512, "steps": 20, "cfg": 4.0, "sampler": "dpmpp_2m", "schedule": "leading",
        "strength": 0.75,
    }  # fmt: skip
    with pytest.raises(openai.NotFoundError, match="not served"):
        client.models.retrieve("sdxl")


def test_names_of_openais_models_stand_for_the_first_that_is_served_and_other_names_are_unknown(client):
    answer = client.images.generate(model="gpt-image-1", prompt="a cat", size=SIZE, extra_body=FEW)
    assert answer.data[0].seed == 7
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(model="sd-nope", prompt="a cat", size=SIZE)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"quality": "hd"}, "quality"),
        ({"style": "vivid"}, "style"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "svg"}, "output_format"),
        ({"size": "65x64"}, "width"),
        ({"size": "4096x4096"}, "size"),
        ({"size": "big"}, "size"),
        ({"n": 11}, "n"),
        ({"steps": 0}, "--steps|steps"),
        ({"sampler": "no_such"}, "no_such"),
        ({"no_such_field": 1}, "no_such_field"),
        ({"restore_faces": True}, "restore_faces"),
        ({"vae": "vae.safetensors"}, "vae"),
        ({"seed": "x"}, "seed"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"partial_images": 4}, "partial_images"),
    ],
    ids=str,
)
def test_what_is_not_done_is_refused_by_name(server, body, named):
    status, answer = server.json(
        "POST", "/v1/images/generations", {"prompt": "a cat", "size": SIZE, "steps": 1, **body}
    )
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert any(name in answer["error"]["message"] for name in named.split("|"))
    assert "\n" not in answer["error"]["message"]


def test_several_pictures_to_edit_are_refused(client, tmp_path):
    with pytest.raises(openai.BadRequestError, match="one is taken"):
        client.images.edit(image=[photo(tmp_path), photo(tmp_path)], prompt="a cat")


def test_a_full_queue_is_told_with_the_time_to_wait(client, server):
    ids = server.occupy(17)
    try:
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.generate(prompt="a cat", size=SIZE)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
    finally:
        server.free(ids)


def test_equal_requests_in_flight_are_drawn_once_and_both_are_answered(client, server):
    ids = server.occupy(1)
    before = server.metric('sd_pictures_total{state="done"}')
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(bytes_of(client.images.generate(prompt="a bus", size=SIZE, extra_body=FEW).data[0]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.until(lambda: server.metric("sd_queue_length") == 1)
    server.free(ids)
    for thread in threads:
        thread.join()
    assert len(answers) == 3 and len(set(answers)) == 1
    assert (
        server.metric('sd_pictures_total{state="done"}') - before <= 2
    )  # one may have come too late to share


@pytest.mark.parametrize("more", [{}, {"stream": True}], ids=["waits", "streams"])
def test_a_client_that_leaves_stops_its_picture(server, more):
    before = server.metric('sd_pictures_total{state="cancelled"}')
    connection = server.post("/v1/images/generations", {"prompt": "a dog", "seed": 1, **LONG, **more})
    server.until(lambda: server.metric("sd_running") == 1)
    connection.close()
    server.until(lambda: server.metric('sd_pictures_total{state="cancelled"}') == before + 1)
