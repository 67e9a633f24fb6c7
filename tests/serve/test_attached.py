"""Pictures for control networks, IP-Adapters, references and regions, which are sent along in their options."""

import base64
import io

import pytest
from PIL import Image

from sdcli.checkpoints import tensor_shapes
from sdcli.checkpoints.checkpoint import read
from sdcli.checkpoints.ip_adapters import cross_attentions
from sdcli.errors import UsageError
from sdcli.request.request import Loading
from sdcli.serve.asks import asks_of
from sdcli.serve.bodies import Rules, read_body
from sdcli.serve.names import Served
from tests import adapter_files, control_files
from tests.pictures import half_mask, photo
from tests.serve.running import events_of, start, stop

SMALL = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}
TYPED = ("txt2img", "a cat", "--seed", 7, "-s", 2, "-W", 64, "-H", 64, "-m", "test:sd1")


def sent(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


HINT, MASK = sent(photo()), sent(half_mask())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a ControlNet, an IP-Adapter and its encoder."""
    folder = tmp_path_factory.mktemp("networks")
    control_files.controlnet(folder, "test:sd1", "canny.safetensors")
    unet = tensor_shapes.of_network("unet", read("test:sd1").components["unet"].config, "x")
    widths = [unet[key][0] for key in cross_attentions(unet)]
    adapter_files.ip_adapter(folder / "face.safetensors", widths, 16)
    adapter_files.image_encoder(folder / "vit")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    named = {"SDCLI_CONTROLS": folder, "SDCLI_IP_ADAPTERS": folder, "SDCLI_IMAGE_ENCODER": folder / "vit"}
    served = start(folder, "-m", "test:sd1", **{name: str(path) for name, path in named.items()})
    yield served
    stop(served)


@pytest.fixture
def here(sd, folder, tmp_path, monkeypatch):
    """The file that the command line saves, in a folder in which the networks and the pictures are."""
    for path in folder.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("SDCLI_IMAGE_ENCODER", str(folder / "vit"))
    for name, text in (("hint.png", HINT), ("mask.png", MASK)):
        (tmp_path / name).write_bytes(base64.b64decode(text))

    def drawn(*options) -> bytes:
        ran = sd(*TYPED, *options, "-q")
        assert ran.code == 0, ran.err
        return (tmp_path / ran.lines[0]).read_bytes()

    return drawn


NAMED_HINT, NAMED_MASK = {"data": HINT, "name": "hint.png"}, {"data": MASK, "name": "mask.png"}
CONTROL = {"file": "canny", "image": NAMED_HINT, "weight": 0.8, "end": 0.5, "annotate": "canny", "low": 50}
CASES = [
    ({"control": [CONTROL]},
     ["--control", "canny.safetensors:image=hint.png:weight=0.8:end=0.5:annotate=canny:low=50"]),
    ({"ip_adapter": [{"file": "face", "image": NAMED_HINT, "weight": 0.5}]},
     ["--ip-adapter", "face.safetensors:image=hint.png:weight=0.5"]),
    ({"reference": {"image": NAMED_HINT, "fidelity": 0.7}}, ["--reference", "hint.png:fidelity=0.7"]),
    ({"region": [{"prompt": "a dog", "mask": NAMED_MASK, "strength": 0.5}, "a bus@0,0,0.5,1"]},
     ["--region", "a dog@mask.png,0.5", "--region", "a bus@0,0,0.5,1"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "typed"), CASES, ids=lambda value: str(value)[:14])
def test_a_picture_that_is_sent_along_acts_as_the_file_does_on_the_command_line(server, here, body, typed):
    data = server.ask("POST", "/v1/jobs", {**SMALL, **body}, Accept="text/event-stream")[2]
    done = events_of(data)[-2]
    assert done["type"] == "job_done", done
    assert base64.b64decode(done["picture"]) == here(*typed)


@pytest.mark.parametrize(("_", "typed"), CASES, ids=lambda value: str(value)[:14])
def test_sd_with_a_server_sends_them_and_saves_the_same_file(server, here, sd, tmp_path, _, typed):
    data = here(*typed)
    ran = sd("--server", server.url, *TYPED, *typed, "-q", "-o", "there.png")
    assert ran.code == 0, ran.err
    assert (tmp_path / "there.png").read_bytes() == data


def test_openais_client_sends_them_as_extra_fields(server, here):
    openai = pytest.importorskip("openai")
    fields = {name: SMALL[name] for name in ("seed", "steps")} | {"control": [CONTROL]}
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.images.generate(prompt="a cat", size="64x64", extra_body=fields)
    assert base64.b64decode(answer.data[0].b64_json) == here(*CASES[0][1])


def test_a_picture_without_a_name_gets_one_and_its_job_tells_no_command(server):
    body = {**SMALL, "control": [{"file": "canny", "image": HINT}]}
    (job,) = server.json("POST", "/v1/jobs", body)[1]["jobs"]
    server.ask("GET", f"/v1/jobs/{job['id']}/events")
    told = server.json("GET", f"/v1/jobs/{job['id']}")[1]
    (text,) = told["request"]["control"]
    assert text.startswith("canny.safetensors:image=picture-") and told["command"] == ""


@pytest.fixture(scope="module")
def rules(folder):
    return Rules(Served(["test:sd1"], Loading()))


def asked(body, rules, monkeypatch, folder):
    for name in ("CONTROLS", "IP_ADAPTERS"):
        monkeypatch.setenv(f"SDCLI_{name}", str(folder))
    return asks_of(read_body({**SMALL, **body}, rules), rules)


def named(name: str) -> dict[str, str]:
    return {"data": HINT, "name": name}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"control": ["canny:image=/etc/passwd"]}, "send an object"),
        ({"control": ["canny:image=hint.png"]}, "send an object"),
        ({"control": [{"file": "canny", "image": "/etc/passwd"}]}, "control.image"),
        ({"control": [{"file": "canny", "image": "http://localhost/x.png"}]}, "no address is fetched"),
        ({"control": [{"file": "/etc/canny.safetensors", "image": HINT}]}, "not the name of a file"),
        ({"control": [{"file": "nope", "image": HINT}]}, "nope"),
        ({"control": [{"file": 5, "image": HINT}]}, "names no file"),
        ({"control": [{"image": HINT}]}, "names no file"),
        ({"control": [{"file": "canny"}]}, "names no picture"),
        ({"control": [{"file": "canny", "image": HINT, "weight": [1]}]}, "control.weight"),
        ({"control": [{"file": "canny", "image": HINT, "weight": "1:image=/etc/passwd"}]}, "control"),
        ({"control": [{"file": "canny", "image": HINT, "nope": 1}]}, "nope"),
        ({"control": [{"file": "canny", "image": named("x:weight=2")}]}, "control"),
        ({"control": [{"file": "canny:image=/etc/passwd", "annotate": "canny"}]}, "control"),
        ({"ip_adapter": ["face:image=x.png"]}, "send an object"),
        ({"ip_adapter": [{"file": "face", "image": HINT, "encoder": "/etc/vit"}]}, "encoder"),
        ({"ip_adapter": [{"file": "face"}]}, "shows no picture"),
        ({"reference": "/etc/passwd"}, "send an object"),
        ({"reference": {"image": HINT, "file": "/etc/passwd"}}, "file"),
        ({"reference": {"fidelity": 0.5}}, "shows no picture"),
        ({"region": ["a dog@/etc/passwd"]}, "send an object"),
        ({"region": [{"prompt": "a dog", "mask": named("0,0,1,1")}]}, "region.mask"),
        ({"region": [{"prompt": "a dog", "mask": named("{/etc/passwd|x}")}]}, "no picture of this name"),
        ({"region": [{"prompt": "a dog", "mask": HINT, "box": [0, 0, 1, 1]}]}, "box"),
        ({"region": [{"prompt": "a dog"}]}, "region"),
        ({"control": [{"file": "canny", "image": named("a")},
                      {"file": "canny", "image": {"data": MASK, "name": "a"}}]}, "another picture"),
    ],
    ids=lambda value: str(value)[:70],
)  # fmt: skip
def test_what_names_a_file_or_cannot_be_meant_is_refused(rules, folder, monkeypatch, body, told):
    with pytest.raises(UsageError, match=told):
        asked(body, rules, monkeypatch, folder)


def test_equal_requests_are_equal_by_the_bytes_of_their_pictures(rules, folder, monkeypatch):
    def key(image):
        (ask,) = asked({"control": [{"file": "canny", "image": image}]}, rules, monkeypatch, folder)
        return ask.key

    assert key(named("x.png")) == key(named("x.png"))
    assert key(named("x.png")) != key({"data": MASK, "name": "x.png"})
