"""Images by URL: fetched for backends that need bytes, through the guard, as the configuration says."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.fakes import raw
from tests.fakes.fake import PATIENCE, Fake, until
from tests.fakes.gateway import Gateway, Settings

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
JPEG = b"\xff\xd8\xff\xe0more"
SHOWN = base64.b64encode(PNG).decode()


class Images(ThreadingHTTPServer):
    """What lies at which path: bytes to send, a redirect's address, or an event to wait for first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ImageHandler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.left: list[str] = []
        self.together = threading.Barrier(2)
        self.url = f"http://127.0.0.1:{self.server_port}"


class ImageHandler(BaseHTTPRequestHandler):
    server: Images

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        if self.path.startswith("/together"):
            self.server.together.wait(PATIENCE)
        if self.path == "/silent":
            if self.rfile.read(1) == b"":
                self.server.left.append(self.path)
            return
        if self.path == "/inward":
            self._send(302, b"", location="http://169.254.169.254/latest/")
        elif self.path == "/moved":
            self._send(302, b"", location="/a.png")
        elif self.path == "/page":
            self._send(200, b"<html>", content_type="text/html")
        elif self.path == "/large":
            self._send(200, PNG + b"x" * 5000)
        elif self.path == "/gone":
            self._send(404, b"")
        else:
            self._send(200, JPEG if ".jpg" in self.path else PNG, content_type="image/png")

    def _send(self, status: int, body: bytes, **fields: str) -> None:
        self.send_response(status)
        for name, value in {**fields, "content_length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def images() -> Iterator[Images]:
    server = Images()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, Fake]]:
    with Fake("ollama", "eyes") as ollama, Fake("openai", "far") as openai:
        yield {"ollama": ollama, "openai": openai}


@contextmanager
def running(fakes: dict[str, Fake], **outbound: Any) -> Iterator[Gateway]:
    for fake in fakes.values():
        fake.reset()
    settings: Settings = {
        "outbound": {"allow": ["127.0.0.0/8"], "image_bytes": 4000, "image_count": 3, **outbound},
        "routing": {"health": {"interval": 0, "load": 0}},
        "backends": [{"name": kind, "kind": kind, "url": fake.url} for kind, fake in fakes.items()],
        "models": [
            {"name": "eyes", "targets": [{"backend": "ollama"}]},
            {"name": "far", "targets": [{"backend": "openai"}]},
            {"name": "both", "targets": [{"backend": "ollama", "model": "eyes"},
                                         {"backend": "openai", "model": "far"}], "balance": "failover"},
        ],
    }  # fmt: skip
    with Gateway(settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def fetching(fakes: dict[str, Fake]) -> Iterator[Gateway]:
    with running(fakes, images="fetch") as gateway:
        yield gateway


def look(gateway: Gateway, *urls: str, model: str = "eyes", stream: bool = False) -> raw.Answer:
    return gateway.ask("POST", "/v1/chat/completions", chat(*urls, model=model, stream=stream))


def chat(*urls: str, model: str = "eyes", stream: bool = False) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": "What is it?"}, *parts]
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]}


@pytest.fixture
def calls(fakes: dict[str, Fake]) -> Fake:
    for fake in fakes.values():
        fake.reset()
    return fakes["ollama"]


# --- fetched


@pytest.mark.parametrize("stream", [False, True])
def test_an_image_is_fetched_for_a_backend_that_takes_bytes(fetching, images, calls, stream):
    answer = look(fetching, f"{images.url}/moved", f"{images.url}/b.jpg?token=x", stream=stream)
    assert answer.status == 200, answer.body
    message = calls.call().json()["messages"][0]
    assert [base64.b64decode(image) for image in message["images"]] == [PNG, JPEG]
    assert fetching.record(answer.headers["x-request-id"])["attempts"] == 1


def test_nothing_of_the_client_goes_along(fetching, images, calls):
    secrets = {"Authorization": "Bearer canary", "Cookie": "canary", "x-api-key": "canary"}
    answer = fetching.ask("POST", "/v1/chat/completions", chat(f"{images.url}/a.png"), headers=secrets)
    assert answer.status == 200
    (path, headers), = images.asked  # fmt: skip
    assert path == "/a.png" and "canary" not in str(headers)
    assert {name.lower() for name in headers} == {"host", "accept", "accept-encoding", "user-agent"}


def test_one_url_is_fetched_once_and_several_together(fetching, images, calls):
    urls = [f"{images.url}/together1", f"{images.url}/together2", f"{images.url}/together1"]
    assert look(fetching, *urls).status == 200
    assert sorted(path for path, _ in images.asked) == ["/together1", "/together2"]
    assert calls.call().json()["messages"][0]["images"] == [SHOWN] * 3


def test_the_other_doors_images_are_fetched_too(fetching, images, calls):
    url = f"{images.url}/a.png"
    items = [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]
    told = fetching.ask("POST", "/v1/responses", {"model": "eyes", "input": items})
    assert told.status == 200, told.body
    block = {"type": "image", "source": {"type": "url", "url": url}}
    message = {"model": "eyes", "max_tokens": 5, "messages": [{"role": "user", "content": [block]}]}
    assert fetching.ask("POST", "/v1/messages", message).status == 200
    assert [call.json()["messages"][0]["images"] for call in calls.calls] == [[SHOWN]] * 2
    again = {"model": "eyes", "input": "And now?", "previous_response_id": told.json()["id"]}
    assert fetching.ask("POST", "/v1/responses", again).status == 200
    assert calls.call(2).json()["messages"][0]["images"] == [SHOWN]


def test_a_backend_that_takes_urls_is_preferred_to_fetching(fetching, images, calls, fakes):
    url = f"{images.url}/a.png"
    assert look(fetching, url, model="both").status == 200
    assert images.asked == [] and calls.calls == []
    assert fakes["openai"].call().json()["messages"][0]["content"][1]["image_url"]["url"] == url


# --- not fetched


@pytest.mark.parametrize(
    ("path", "words"),
    [("/inward", "link-local"), ("/page", "png, jpeg, webp or gif (content-type: 'text/html')"),
     ("/large", "exceeds 4000 bytes"), ("/gone", "answered 404")],
)  # fmt: skip
def test_an_image_that_cannot_be_had_is_the_requests_fault(fetching, images, calls, path, words):
    answer = look(fetching, images.url + path)
    assert answer.status == 400, answer.body
    assert words in answer.error["message"] and answer.error["code"] == "invalid_image_url"
    assert answer.error["param"] == "messages[0].content[1].image_url.url"
    assert calls.calls == []


@pytest.mark.parametrize(
    "url", ["http://[::1]/a.png", "http://169.254.169.254/", "http://2130706433/", "file:///etc/passwd",
            "a.png", "http://user:pw@127.0.0.1/", "http://localhost.localdomain:1/"]
)  # fmt: skip
def test_addresses_outside_the_allow_list_are_refused(fetching, calls, url):
    answer = look(fetching, url)
    assert answer.status == 400 and answer.error["code"] == "invalid_image_url", answer.body
    assert calls.calls == [] and "pw" not in answer.error["message"]


def test_a_data_url_that_nobody_reads_is_not_fetched_again_and_again(fetching, images, calls):
    answer = look(fetching, f"DATA:image/png;base64,{SHOWN}")
    assert answer.status == 400 and answer.error["code"] == "unsupported_value"
    assert images.asked == [] and calls.calls == []


def test_this_machine_is_out_of_reach_by_default(fakes, images):
    with running(fakes, images="fetch", allow=[]) as gateway:
        answer = look(gateway, f"{images.url}/a.png")
    assert answer.status == 400 and "this machine" in answer.error["message"] and images.asked == []


def test_a_request_has_so_many_images_and_no_more(fetching, images, calls):
    answer = look(fetching, *(f"{images.url}/{number}.png" for number in range(4)))
    assert answer.status == 400 and "at most 3" in answer.error["message"]
    assert answer.error["param"] == "messages[0].content[4].image_url.url" and images.asked == []


def test_the_images_of_a_request_are_limited_together(fakes, images):
    with Gateway(
        {
            "server": {"limits": {"body_bytes": 400}},
            "outbound": {"allow": ["127.0.0.1/32"], "images": "fetch", "image_count": 100},
            "backends": [{"name": "ollama", "kind": "ollama", "url": fakes["ollama"].url}],
        }
    ) as gateway:
        answer = look(gateway, f"{images.url}/a.png")
        assert answer.status == 200, answer.body
        large = look(gateway, f"{images.url}/large")
    assert large.status == 413 and "400 bytes" in large.error["message"]


def test_who_leaves_while_an_image_is_fetched_leaves_nothing(fetching, images, calls):
    body = chat(f"{images.url}/silent", stream=True)
    with fetching.open() as client:
        client.send(raw.request("POST", "/v1/chat/completions", json.dumps(body).encode()))
        until(lambda: images.asked, "the image is asked for")
    until(lambda: images.left, "the image's server sees the connection closed")
    assert calls.calls == []


def test_by_default_nothing_is_fetched_and_the_answer_says_how(fakes, images):
    with running(fakes) as gateway:
        answer = look(gateway, f"{images.url}/a.png")
        assert answer.status == 400 and 'outbound.images = "fetch"' in answer.error["message"]
        assert look(gateway, f"{images.url}/a.png", model="far").status == 200
    assert images.asked == []


# --- for all backends


def test_always_gives_no_backend_an_address(fakes, images):
    with running(fakes, images="always") as gateway:
        assert look(gateway, f"{images.url}/a.png", model="far", stream=True).status == 200
        part = fakes["openai"].call().json()["messages"][0]["content"][1]
        assert part["image_url"]["url"] == f"data:image/png;base64,{SHOWN}"
        refused = look(gateway, "http://169.254.169.254/", model="far")
        assert refused.status == 400 and len(fakes["openai"].calls) == 1
        video = {"type": "video_url", "video_url": {"url": f"{images.url}/v.mp4"}}
        body = {"model": "far", "messages": [{"role": "user", "content": [video]}]}
        answer = gateway.ask("POST", "/v1/chat/completions", body)
        assert answer.status == 400 and answer.error["param"] == "messages[0].content[0].video_url.url"


def test_refuse_takes_data_only(fakes, images):
    with running(fakes, images="refuse") as gateway:
        answer = look(gateway, f"{images.url}/a.png", model="far")
        assert answer.status == 400 and answer.error["param"] == "messages[0].content[1].image_url.url"
        assert look(gateway, f"data:image/png;base64,{SHOWN}", model="far").status == 200
    assert images.asked == []
