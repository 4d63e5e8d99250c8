"""One running gateway, as `ghostctl` talks to it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ghostllm import __version__
from ghostllm.cli.ctl_show import plain

LARGEST_ANSWER = 16 * 1024 * 1024
LONGEST_LINE = 8 * 1024 * 1024
"""Of a stream, in bytes."""


class Unanswered(Exception):
    """The gateway gave no usable answer; the message says what to do."""


@dataclass(slots=True, frozen=True)
class Answer:
    status: int
    value: Any
    """The decoded JSON body."""


@dataclass(slots=True, frozen=True)
class Events:
    """A stream that has begun. headers: of the answer, names in lower case."""

    headers: Mapping[str, str]
    lines: Iterator[str]
    """One by one as they come, without their ends. Raises Unanswered when it breaks off."""


@dataclass(slots=True, frozen=True, repr=False)
class Gateway:
    """One running gateway. timeout: seconds for connecting and for each wait on the answer. url_from,
    key_from: who named them. file: where they could be named for good. model: to talk with, unless told.
    """

    url: str
    key: str
    timeout: float
    url_from: str = "--url"
    key_from: str = "--key"
    file: str = ""
    model: str = ""

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Whatever it answers, as long as it is JSON. Raises Unanswered."""
        with self._asking(method, path, body) as response:
            return self._read(path, response)

    @contextmanager
    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Events]:
        """POSTs, and gives the lines of the answer; leaving it closes the connection, which is how the
        gateway is told that nobody wants the rest. Raises Unanswered.
        """
        with self._asking("POST", path, body, accept="text/event-stream") as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            if response.status != 200:
                raise Unanswered(self._refusal(path, self._read(path, response)))
            if not headers.get("content-type", "").startswith("text/event-stream"):
                raise Unanswered(f"{self.url}{path} gave no stream: is it GhostLLM? (--url)")
            yield Events(headers, self._lines(response))

    def asked(
        self, path: str, *words: str, method: str = "GET", body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON object of a good answer. words: path segments to be appended, in whatever characters.

        Raises Unanswered.
        """
        path = "/".join((path, *(quote(word, safe="") for word in words)))
        return self.good(self.ask(method, path, body), path)

    def good(self, answer: Answer, path: str) -> dict[str, Any]:
        """The JSON object of a good answer. Raises Unanswered."""
        value = self._value(answer, path)
        if not isinstance(value, dict):
            raise self._stranger(path, "object")
        return value

    def listed(
        self, path: str, member: str, filters: Mapping[str, str | int | None] | None = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """A good answer's JSON and the list of objects in it. filters: for the query, those that are not
        None. Raises Unanswered.
        """
        given = {name: value for name, value in (filters or {}).items() if value is not None}
        asked = f"{path}?{urlencode(given)}" if given else path
        value = self._value(self.ask("GET", asked), asked)
        rows = value.get(member) if isinstance(value, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._stranger(path, f"list of {path.rpartition('/')[2]}")
        return value, rows

    # --- the exchange

    @contextmanager
    def _asking(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, accept: str = "application/json"
    ) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        data = None if body is None else json.dumps(body).encode()
        headers = {"accept": accept, **self._headers(method, data)}
        try:
            with self._network():
                connection.request(method, parts.path.rstrip("/") + path, data, headers)
                response = connection.getresponse()
            yield response
        finally:
            connection.close()

    @contextmanager
    def _network(self) -> Iterator[None]:
        """What may fail there, as something to be told. Not around the caller's own work: that has pipes that
        break, too.
        """
        try:
            yield
        except TimeoutError:
            raise Unanswered(f"{self.url} did not answer within {self.timeout:g} s (--timeout)") from None
        except ConnectionRefusedError:
            raise Unanswered(self._nobody()) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unanswered(f"cannot talk to {self.url}: {plain(reason.strip())}") from None

    def _read(self, path: str, response: http.client.HTTPResponse) -> Answer:
        with self._network():
            body = response.read(LARGEST_ANSWER)
        if response.length:
            raise Unanswered(f"the answer of {self.url}{path} was cut short, or is larger than 16 MiB")
        try:
            return Answer(response.status, json.loads(body))
        except (ValueError, RecursionError):
            raise Unanswered(
                f"{self.url}{path} answered {response.status} and no JSON: is it GhostLLM? (--url)"
            ) from None

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[str]:
        while True:
            with self._network():
                line = response.readline(LONGEST_LINE)
            if not line:
                return
            if not line.endswith(b"\n"):
                raise Unanswered("the stream broke off inside a line, or has one of more than 8 MiB")
            yield line.decode("utf-8", "replace").rstrip("\r\n")

    def _headers(self, method: str, data: bytes | None) -> dict[str, str]:
        headers = {"user-agent": f"ghostctl/{__version__}"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        if data is not None:
            headers["content-type"] = "application/json"
        if method != "GET":
            headers["x-ghostllm-admin"] = "1"
        return headers

    # --- what to say, and what to do about it

    def _value(self, answer: Answer, path: str) -> Any:
        if not 200 <= answer.status < 300:
            raise Unanswered(self._refusal(path, answer))
        return answer.value

    def _stranger(self, path: str, wanted: str) -> Unanswered:
        return Unanswered(f"{self.url}{path} gave no {wanted}: is it GhostLLM? (--url)")

    def _nobody(self) -> str:
        ways = "--url, GHOSTLLM_URL" + (f" or `url` in {self.file}" if self.file else "")
        return (
            f"nothing listens at {self.url} (from {self.url_from}): is `ghostllm serve` running there? "
            f"{ways} names another address"
        )

    def _refusal(self, path: str, answer: Answer) -> str:
        error = answer.value.get("error") if isinstance(answer.value, dict) else None
        message = plain(error.get("message") if isinstance(error, dict) else error)
        if answer.status == 401:
            return self._unknown_key()
        if answer.status == 403:
            return f"{self.url} refuses: {message}"
        if answer.status == 404:
            if message == "-":
                return f"{self.url} has nothing there: is it GhostLLM? (--url)"
            if message.startswith("no such path"):
                hint = "an older gateway, or one whose admin API listens on an address of its own (--url)"
                return f"{self.url} has no {path.partition('?')[0]}: {hint}"
            return message
        return f"{self.url} answered {answer.status}: {message}"

    def _unknown_key(self) -> str:
        made = "keys stand in its configuration, or are made by `ghostctl keys create`"
        if not self.key:
            ways = "--key KEY, GHOSTLLM_KEY" + (f" or `key` in {self.file}" if self.file else "")
            return f"{self.url} wants a key and none was given: {ways} ({made})"
        end = f" (it ends in {self.key[-4:]})" if len(self.key) >= 20 else ""
        return f"{self.url} does not take the key of {self.key_from}{end}: {made}"
