"""Heads as real clients and servers send them, and ways to spoil them."""

from __future__ import annotations

from hypothesis import strategies as st

OPENAI = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
    b"User-Agent: OpenAI/Python 2.8.0\r\nX-Stainless-Lang: python\r\nX-Stainless-OS: Linux\r\n"
    b"X-Stainless-Async: false\r\nAuthorization: Bearer sk-ghost-0123456789abcdef\r\n"
    b"x-stainless-retry-count: 0\r\nContent-Length: 41\r\n\r\n"
)
CURL = (
    b"GET /v1/models?limit=2 HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5\r\nAccept: */*\r\n\r\n"
)
CHUNKED = (
    b"POST /api/chat HTTP/1.1\r\nhost: [::1]:11434\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"
    b"expect: 100-continue\r\nContent-Type: application/json\r\n\r\n"
)
BROWSER = (
    b"OPTIONS /v1/embeddings HTTP/1.1\r\nHost: ghost.example.org\r\nOrigin: https://app.example.org\r\n"
    b"Access-Control-Request-Headers: authorization,content-type\r\nCookie: a=1\r\nCookie: b=2\r\n"
    b'Sec-CH-UA: "Chromium";v="156", "Not A(Brand";v="8"\r\nAccept-Language: de,en;q=0.5\r\n'
    b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\nX-Empty:\r\nX-Name: caf\xc3\xa9\t\r\n\r\n"
)
OLD = b"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"
STAR = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
ABSOLUTE = b"GET http://b.example:80/v1/models?x=1 HTTP/1.1\r\nHost: a.example\r\nX_Y: 1\r\n\r\n"
REQUESTS = (OPENAI, CURL, CHUNKED, BROWSER, OLD, STAR, ABSOLUTE)

VLLM = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 00:13:05 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
OLLAMA = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json; charset=utf-8\r\n"
    b"Date: Mon, 23 Nov 2026 00:13:05 GMT\r\nContent-Length: 12\r\nVary: a\r\nVary: b\r\n\r\n"
)
NO_REASON = b"HTTP/1.1 200 \r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204\r\nServer: x\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"
RESPONSES = (VLLM, OLLAMA, NO_REASON, NO_CONTENT, UNTIL_CLOSE)

POISON = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b"\x0c", b"\x1c", b"\x7f", b"\x80", b"\x85", b"\xff",
    b":", b",", b"_", b"+", b"-", b"0x", b"#", b"?", b"/", b"*", b"@", b"%", b"0", b"9", b"\xd9\xa3",
    b"chunked", b"\r\n ", b"\r\n\r\n", b"Host: b\r\n", b"Content-Length: 3\r\n", b"Content-Length: 41\r\n",
    b"HTTP/1.1", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X: y\r\n",
)  # fmt: skip
"""What tells parsers apart: line ends, spaces and digits that are none, signs, whole fields."""


@st.composite
def spoiled(draw, heads):
    """A real head with up to four edits: bytes put in, taken out or replaced, lines doubled or moved."""
    head = draw(st.sampled_from(heads))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(head)))
        edit = draw(st.sampled_from(("insert", "delete", "replace", "line", "double", "move")))
        piece = draw(st.sampled_from(POISON) | st.binary(min_size=1, max_size=2))
        lines = head.split(b"\r\n")
        which = at % len(lines)
        if edit == "insert":
            head = head[:at] + piece + head[at:]
        elif edit == "delete":
            head = head[:at] + head[at + len(piece) :]
        elif edit == "replace":
            head = head[:at] + piece + head[at + len(piece) :]
        elif edit == "line":  # an edit where it hurts most: at the beginning of a line
            head = b"\r\n".join((*lines[:which], piece + lines[which], *lines[which + 1 :]))
        elif edit == "double":
            head = b"\r\n".join((*lines[:which], lines[which], *lines[which:]))
        else:
            lines.insert(1, lines.pop(which))
            head = b"\r\n".join(lines)
    return head
