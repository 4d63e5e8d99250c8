"""What a request has by URL: found where the dialects have content, replaced in place, nowhere else."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.links import IMAGE, OTHER, links

URL = "http://a.example/x.png"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "content", "image_url", "url", "source", "output", "file", "file_data", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


def message(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        (message({"type": "image_url", "image_url": {"url": URL}}), IMAGE,
         "messages[0].content[0].image_url.url"),
        (message({"type": "image_url", "image_url": URL}), IMAGE, "messages[0].content[0].image_url"),
        (message({"type": "image", "source": {"type": "url", "url": URL}}), IMAGE,
         "messages[0].content[0].source.url"),
        (message({"type": "document", "source": {"type": "url", "url": URL}}), OTHER,
         "messages[0].content[0].source.url"),
        (message({"type": "tool_result", "content": [
            {"type": "image", "source": {"type": "url", "url": URL}}]}), IMAGE,
         "messages[0].content[0].content[0].source.url"),
        (message({"type": "document", "source": {"type": "content", "content": [
            {"type": "image", "source": {"type": "url", "url": URL}}]}}), IMAGE,
         "messages[0].content[0].source.content[0].source.url"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]}, IMAGE,
         "input[0].content[0].image_url"),
        ({"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": URL}]}]},
         IMAGE, "input[0].output[0].image_url"),
        ({"input": [{"type": "input_file", "file_url": URL}]}, OTHER, "input[0].file_url"),
        (message({"type": "video_url", "video_url": {"url": "file:///x"}}), OTHER,
         "messages[0].content[0].video_url.url"),
        (message({"type": "file", "file": {"file_data": "https://a.example/f.pdf"}}), OTHER,
         "messages[0].content[0].file.file_data"),
    ],
)  # fmt: skip
def test_media_by_url_in_every_dialect(fields, kind, param):
    (link,) = links(fields)
    assert (link.kind, link.param) == (kind, param)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": None, "input": URL, "prompt": URL},
        message({"type": "text", "text": URL}),
        message({"type": "image_url", "image_url": {"url": "DATA:image/png;base64,AA=="}}),
        message({"type": "image", "source": {"type": "base64", "data": "AA==", "url": URL}}),
        message({"type": "tool_use", "input": {"image_url": URL, "content": [{"image_url": URL}]}}),
        {"tools": [{"function": {"parameters": {"image_url": URL}}}], "metadata": {"image_url": URL}},
        message({"type": "file", "file": {"file_data": "JVBERi0x" * 10}}),
    ],
)
def test_what_nobody_fetches_is_no_link(fields):
    assert links(fields) == []


def test_the_bytes_take_the_urls_place_and_nothing_else_changes():
    fields = message(
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "input_image", "image_url": URL},
        {"type": "image", "source": {"type": "url", "url": URL}, "cache_control": {"type": "ephemeral"}},
    )
    for link in links(fields):
        link.put("image/png", "AA==")
    assert fields["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
            "cache_control": {"type": "ephemeral"},
        },
    ]
    assert links(fields) == []


@given(st.lists(JSON, max_size=4))
def test_whatever_the_body_holds(parts):
    fields = {"messages": parts, "input": parts}
    before = copy.deepcopy(fields)
    for link in links(fields):
        assert isinstance(link.url, str)
    assert fields == before


def test_depth_is_no_matter():
    part = {"content": []}
    for _ in range(50_000):
        part = {"content": [part]}
    part["image_url"] = URL
    assert len(links({"messages": [part]})) == 1
