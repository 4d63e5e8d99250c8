"""What the tables say of figures, and what delays are worth."""

from __future__ import annotations

import pytest

from bench import latency, peers, report

FOUND = {
    "direct": {"p50_us": 20.0},
    "nginx": {"cpu_request_us": 16.0, "cpu_token_us_512": 14.0},
    "envoy": {"cpu_request_us": 35.0, "cpu_token_us_512": 25.0},
    "litellm": {"cpu_request_us": 12000.0},
    "ghostllm": {
        "cpu_request_us": 34.0, "cpu_token_us_512": 20.0, "added_p50_us": 150.0, "clean_512": 512.0,
        "clean_2000": 1999.0, "memory_rest_mb": 41.0,
    },
}  # fmt: skip


def cells(page: str, title: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {title}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("title", "must", "aim"),
    [
        ("CPU per request", "yes", "yes"),  # 34 ≤ 35, 34 ≤ 2.5 × 16
        ("CPU per streamed token", "yes", "**no**"),  # 20 ≤ 25, 20 > 14
        ("added p50", "yes", "**no**"),
        ("of 512 paced streams", "yes", "**no**"),  # the aim is of 2000
        ("memory at rest", "**no**", "**no**"),
        ("start to first answer", "–", "–"),  # not measured
    ],
)
def test_promises_are_judged(title: str, must: str, aim: str) -> None:
    row = cells(report.promises(FOUND), title)
    assert (row[-3], row[-1]) == (must, aim)


def test_a_promise_against_a_peer_that_is_not_here_is_open() -> None:
    row = cells(report.promises({name: FOUND[name] for name in ("nginx", "ghostllm")}), "CPU per request")
    assert (row[-3], row[-1]) == ("–", "yes")


def test_against_another_gateway() -> None:
    assert report.against(FOUND, "litellm", "LiteLLM") == "Against LiteLLM: CPU per request 1/353."
    assert report.against(FOUND, "portkey", "Portkey") == ""


def test_the_whole_table_has_ratios_to_nginx() -> None:
    row = cells(report.table(FOUND), "CPU per request")
    assert row[1:] == ["–", "16.0", "35.0 (2.19×)", "12000 (750.00×)", "34.0 (2.12×)"]


def test_translations_are_held_against_what_passes_through() -> None:
    ours = {"cpu_token_us_512": 20.0, "cpu_token_us_openai_openai": 20.0, "cpu_token_us_openai_ollama": 30.0}
    page = report.translations({"ghostllm": ours})
    assert cells(page, "openai | openai")[-1] == "passed through, 1.00×"
    assert cells(page, "openai | ollama")[-1] == "translated, 1.50×"
    assert len(page.splitlines()) == 4
    assert report.translations(FOUND) == ""


def test_medians_are_of_what_lies_above_no_gateway_at_all() -> None:
    legs = {
        "direct": [{"p50_us": 20.0}, {"p50_us": 40.0}, {"p50_us": 30.0}],
        "nginx": [{"p50_us": 50.0}, {"p50_us": 90.0}, {"p50_us": 70.0}],
    }
    found = report.medians(legs)
    assert found["nginx"] == {"p50_us": 70.0, "added_p50_us": 40.0}
    assert found["direct"] == {"p50_us": 30.0}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b'{"content":"a}b{c"}}',
        b"HTTP/1.1 200 OK\r\nX: 0\r\ncontent-length:0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_whole_at_its_last_byte(answer: bytes) -> None:
    buffer = memoryview(bytearray(answer) + b"what an earlier answer left behind }")
    assert [latency.is_whole(buffer, size) for size in range(len(answer))] == [False] * len(answer)
    assert latency.is_whole(buffer, len(answer))


def test_an_error_is_no_delay() -> None:
    answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(RuntimeError, match="502"):
        latency.is_whole(memoryview(answer), len(answer))


def test_a_burst_spoils_its_own_block_only() -> None:
    calm = [100_000] * 297 + [200_000] * 3
    burst = [9_000_000] * 300
    found = latency.summary([calm, calm, burst, calm, calm])
    assert found == {"p50_us": 100.0, "p99_us": 200.0, "p99_pooled_us": 9000.0, "requests": 1500}


def test_slow_peers_have_their_turns_put_together() -> None:
    found = latency.summary([[1_000 * number] * 5 for number in range(1, 101)])
    assert found["p99_us"] == pytest.approx((40 + 100) / 2)  # two blocks: turns 1 to 40, and the rest


def test_peers_by_name() -> None:
    here, skipped = peers.chosen(["ghostllm"])
    assert [peer.name for peer in here] == ["direct", "ghostllm"] and skipped == []
    with pytest.raises(ValueError, match="no peer 'ngnix'"):
        peers.chosen(["ngnix"])
    assert all(peer.install for peer in peers.ALL if peer.name not in ("direct", "ghostllm"))
