"""Fixtures: one server for the tests of a module, and OpenAI's client of it."""

import pytest

from tests.serve.running import start, stop


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running server with the embedded model."""
    served = start(tmp_path_factory.mktemp("server"))
    yield served
    stop(served)


@pytest.fixture(scope="module")
def client(server):
    """OpenAI's own client, pointed at the server."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client
