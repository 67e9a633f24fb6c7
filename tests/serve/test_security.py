"""Security: who is answered, by what is sent alone; the application is called without a network."""

import asyncio
import base64
import json

import pytest

from sdcli.serve.security import Rules, Security, is_loopback

TOKEN = "a-long-token"
DEFAULT = Rules()


async def app(scope, receive, send):
    """Reads the body, and answers with its size."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def ask(
    rules=DEFAULT,
    method="GET",
    path="/v1/models",
    headers=(),
    parts=(b"",),
    host="127.0.0.1:7860",
    pause=0.0,
    security=None,
):
    """(status, headers, body) of the answer to a request whose body comes in parts."""
    sent, left = [], list(parts)
    named = [("host", host)] if host is not None else []

    async def receive():
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in [*named, *headers]],
    }  # fmt: skip
    asyncio.run((security or Security(app, rules))(scope, receive, send))
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        ("127.0.0.1:7860", True),
        ("localhost", True),
        ("LOCALHOST:1234", True),
        ("[::1]:7860", True),
        ("evil.example", False),
        ("evil.example:7860", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("192.168.0.7:7860", False),
        ("", False),
        (None, False),
        ("127.0.0.1@evil.example", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
def test_only_hosts_of_the_list_are_answered_whatever_the_method(host, is_served, method):
    assert ask(method=method, host=host)[0] == (200 if is_served else 403)


def test_hosts_can_be_allowed_and_an_open_address_takes_any_address_but_no_name():
    assert ask(Rules(hosts=("Draw.example",)), host="draw.example:80")[0] == 200
    assert ask(Rules(host="0.0.0.0"), host="192.168.0.7:7860")[0] == 200
    assert ask(Rules(host="0.0.0.0"), host="evil.example")[0] == 403


def test_two_hosts_are_refused():
    assert ask(headers=[("host", "localhost")])[0] == 403


@pytest.mark.parametrize(
    ("headers", "is_answered"),
    [
        ([], True),
        ([("origin", "http://127.0.0.1:7860")], True),
        ([("origin", "http://127.0.0.1:7861")], False),
        ([("origin", "http://evil.example")], False),
        ([("origin", "null")], False),
        ([("origin", "")], False),
        ([("sec-fetch-site", "same-origin")], True),
        ([("sec-fetch-site", "none")], True),
        ([("sec-fetch-site", "cross-site")], False),
        ([("sec-fetch-site", "same-site")], False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_requests_of_foreign_pages_are_not_answered(headers, is_answered, method):
    assert ask(method=method, headers=headers)[0] == (200 if is_answered else 403)


CLICK = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]


def test_a_link_of_a_foreign_page_opens_the_page():
    assert ask(path="/", headers=CLICK)[0] == 200


@pytest.mark.parametrize(
    "more",
    [
        {"path": "/v1/models"},
        {"path": "/v1/jobs", "method": "POST"},
        {"path": "/", "method": "POST"},
        {"path": "/", "headers": [*CLICK[:2], ("sec-fetch-dest", "iframe")]},
        {"path": "/", "headers": [CLICK[0], ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]},
        {"path": "/", "headers": [*CLICK, ("origin", "http://evil.example")]},
        {"path": "/", "host": "evil.example"},
    ],
    ids=str,
)
def test_a_foreign_page_opens_nothing_else(more):
    assert ask(**{"headers": CLICK, **more})[0] == 403


def test_no_page_may_read_an_answer_unless_its_origin_is_allowed():
    page = "https://draw.example"
    asked = [("origin", page), ("sec-fetch-site", "cross-site")]
    rules = Rules(origins=(page,))
    assert "access-control-allow-origin" not in ask()[1]
    assert ask(headers=asked)[0] == 403
    status, told, _ = ask(rules, headers=asked)
    assert status == 200 and told["access-control-allow-origin"] == page
    before = [*asked, ("access-control-request-method", "POST")]
    assert ask(rules, "OPTIONS", headers=before)[:1] == (204,)
    assert ask(Rules(), "OPTIONS", headers=before)[0] == 403


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("multipart/form-data; boundary=x", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain; application/json", 415),
        ("", 415),
    ],
)
def test_bodies_are_json_or_forms(kind, status):
    headers = [("content-type", kind), ("content-length", "2")]
    assert ask(method="POST", headers=headers, parts=[b"{}"])[0] == status


def test_a_body_in_chunks_needs_its_type_too_and_none_is_compressed():
    assert ask(method="POST", headers=[("transfer-encoding", "chunked")], parts=[b"{}"])[0] == 415
    packed = [("content-type", "application/json"), ("content-encoding", "gzip"), ("content-length", "2")]
    assert ask(method="POST", headers=packed, parts=[b"{}"])[0] == 415


JSON = ("content-type", "application/json")


def test_a_body_that_is_too_large_is_refused_by_its_length_and_while_it_comes():
    rules = Rules(max_body=100)
    assert ask(rules, "POST", headers=[JSON, ("content-length", "101")])[0] == 413
    assert ask(rules, "POST", headers=[JSON, ("content-length", "100")], parts=[b"x" * 100])[0] == 200
    assert (
        ask(rules, "POST", headers=[JSON, ("transfer-encoding", "chunked")], parts=[b"x" * 60] * 2)[0] == 413
    )
    assert ask(rules, "POST", headers=[JSON, ("content-length", "9" * 5000)])[0] == 413
    assert ask(rules, "POST", headers=[JSON, ("content-length", "-1")])[0] == 400


def test_large_bodies_at_the_same_time_are_refused_for_the_moment_and_counted_once():
    rules = Rules(max_bodies=100)
    security = Security(app, rules)
    headers = [JSON, ("transfer-encoding", "chunked")]
    for _ in range(3):
        assert ask(rules, "POST", headers=headers, parts=[b"x" * 90], security=security)[0] == 200
    status, told, _ = ask(rules, "POST", headers=headers, parts=[b"x" * 60] * 2, security=security)
    assert status == 429 and told["retry-after"] == "5"
    assert security.held == 0


def test_a_body_that_dribbles_is_cut_off():
    rules = Rules(body_seconds=0.05)
    headers = [JSON, ("content-length", "1000")]
    assert ask(rules, "POST", headers=headers, parts=[b"x"] * 1000, pause=0.01)[0] == 408


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        ("Basic " + base64.b64encode(f"user:{TOKEN}".encode()).decode(), 200),
        ("Basic " + base64.b64encode(f":{TOKEN}".encode()).decode(), 200),
        ("Basic " + base64.b64encode(f"{TOKEN}:".encode()).decode(), 401),
        ("Basic !!!", 401),
        ("Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(), 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        ("Bearer", 401),
        ("", 401),
        (TOKEN, 401),
        ("Bearer é", 401),
    ],
)
def test_the_token_is_asked_for_as_bearer_or_as_basics_password(authorization, status):
    assert ask(Rules(token=TOKEN), headers=[("authorization", authorization)])[0] == status


def test_the_page_that_asks_for_the_token_needs_none_but_is_told_to_no_other_host():
    assert ask(Rules(token=TOKEN), path="/")[0] == 200
    assert ask(Rules(token=TOKEN), path="/", host="evil.example")[0] == 403
    assert ask(Rules(token=TOKEN), path="//")[0] == 401


def test_without_the_token_nothing_is_told_but_that_the_server_is_there():
    status, told, body = ask(Rules(token=TOKEN))
    assert status == 401 and told["www-authenticate"].startswith("Basic") and TOKEN.encode() not in body
    assert ask(Rules(token=TOKEN), path="/healthz")[0] == 200


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_answer_forbids_guessing_its_type_and_framing_it(host):
    told = ask(host=host)[1]
    assert told["x-content-type-options"] == "nosniff" and told["x-frame-options"] == "DENY"


def test_refusals_are_told_in_openais_form():
    body = json.loads(ask(host="evil.example")[2])
    assert body["error"]["code"] == "host" and "--allow-host" in body["error"]["message"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.0.7", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_addresses_are_those_that_only_this_machine_reaches(host, expected):
    assert is_loopback(host) is expected
