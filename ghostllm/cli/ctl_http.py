"""One running gateway, as `ghostctl` talks to it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ghostllm import __version__
from ghostllm.cli.ctl_show import plain

LARGEST_ANSWER = 16 * 1024 * 1024


class Unanswered(Exception):
    """The gateway gave no usable answer; the message says what to do."""


@dataclass(slots=True, frozen=True)
class Answer:
    status: int
    value: Any
    """The decoded JSON body."""


@dataclass(slots=True, frozen=True, repr=False)
class Gateway:
    """One running gateway. timeout: seconds for connecting and for each wait on the answer."""

    url: str
    key: str
    timeout: float

    def ask(self, method: str, path: str) -> Answer:
        """Whatever it answers, as long as it is JSON. Raises Unanswered."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        try:
            connection.request(method, parts.path.rstrip("/") + path, headers=self._headers(method))
            response = connection.getresponse()
            body = response.read(LARGEST_ANSWER)
            if response.length:
                raise Unanswered(f"the answer of {self.url}{path} was cut short, or is larger than 16 MiB")
        except TimeoutError:
            raise Unanswered(f"{self.url} did not answer within {self.timeout:g} s (--timeout)") from None
        except ConnectionRefusedError:
            hint = "is `ghostllm serve` running there? --url names another address"
            raise Unanswered(f"nothing listens at {self.url}: {hint}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unanswered(f"cannot talk to {self.url}: {plain(reason.strip())}") from None
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(body))
        except (ValueError, RecursionError):
            raise Unanswered(
                f"{self.url}{path} answered {response.status} and no JSON: is it GhostLLM? (--url)"
            ) from None

    def asked(self, path: str, *words: str, method: str = "GET") -> dict[str, Any]:
        """The JSON object of a good answer. words: path segments to be appended, in whatever characters.

        Raises Unanswered.
        """
        path = "/".join((path, *(quote(word, safe="") for word in words)))
        return self.good(self.ask(method, path), path)

    def good(self, answer: Answer, path: str) -> dict[str, Any]:
        """The JSON object of a good answer. Raises Unanswered."""
        if answer.status != 200:
            raise Unanswered(self._refusal(answer))
        if not isinstance(answer.value, dict):
            raise self._stranger(path, "object")
        return answer.value

    def listed(
        self, path: str, member: str, filters: Mapping[str, str | int | None] | None = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """A good answer's JSON and the list of objects in it. filters: for the query, those that are not
        None. Raises Unanswered.
        """
        given = {name: value for name, value in (filters or {}).items() if value is not None}
        value = self._good("GET", f"{path}?{urlencode(given)}" if given else path)
        rows = value.get(member) if isinstance(value, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._stranger(path, f"list of {path.rpartition('/')[2]}")
        return value, rows

    def _good(self, method: str, path: str) -> Any:
        answer = self.ask(method, path)
        if answer.status != 200:
            raise Unanswered(self._refusal(answer))
        return answer.value

    def _stranger(self, path: str, wanted: str) -> Unanswered:
        return Unanswered(f"{self.url}{path} gave no {wanted}: is it GhostLLM? (--url)")

    def _headers(self, method: str) -> dict[str, str]:
        headers = {"accept": "application/json", "user-agent": f"ghostctl/{__version__}"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        if method != "GET":
            headers["x-ghostllm-admin"] = "1"
        return headers

    def _refusal(self, answer: Answer) -> str:
        error = answer.value.get("error") if isinstance(answer.value, dict) else None
        message = plain(error.get("message") if isinstance(error, dict) else error)
        if answer.status == 401:
            return f"{self.url} wants a key, or another one: --key KEY, or the variable GHOSTLLM_KEY"
        if answer.status == 403:
            hint = "a key may if the gateway's configuration gives it `manage = true`"
            return f"{self.url} refuses: {message} ({hint})"
        if answer.status == 404:
            return message if message != "-" else f"{self.url} has nothing there: is it GhostLLM? (--url)"
        return f"{self.url} answered {answer.status}: {message}"
