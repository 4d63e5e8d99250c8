"""The GGUF header reader on files made by hand, cut short, and hostile."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ghostllm.backends.gguf_header import Header, read_header
from tests.backends.gguf_files import gguf, text

BERT = {
    "general.architecture": ("str", "bert"),
    "tokenizer.ggml.tokens": ("[str]", ["a", "", "längeres"]),
    "tokenizer.ggml.scores": ("[f32]", [0.5, 1.0]),
    "general.file_type": ("u32", 7),
    "bert.attention.causal": ("bool", False),
    "bert.context_length": ("u32", 512),
    "bert.pooling_type": ("u32", 2),
}
keeps_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def written(folder: Path, data: bytes) -> str:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("version", [2, 3])
def test_facts_behind_arrays_of_every_kind_are_found(tmp_path, version):
    assert read_header(written(tmp_path, gguf(BERT, version))) == Header("bert", 512, 2)


def test_a_model_without_pooling_of_its_own_has_none(tmp_path):
    generates = {"general.architecture": ("str", "llama"), "llama.pooling_type": ("u32", 0)}
    assert read_header(written(tmp_path, gguf(generates))) == Header("llama", None, None)


def test_a_header_cut_anywhere_is_told_so(tmp_path):
    whole = gguf(BERT)
    for size in range(4, len(whole)):
        with pytest.raises(ValueError, match="cut short"):
            read_header(written(tmp_path, whole[:size]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a GGUF file"),
        (b"GGU", "not a GGUF file"),
        (b"PK\x03\x04 a zip", "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<I", 99), "type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 9, 1), "type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 2**63), "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 2**63), "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1), "cut short"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, data, words):
    with pytest.raises(ValueError, match=words):
        read_header(written(tmp_path, data))


@keeps_files
@given(st.data())
def test_damaged_headers_never_do_worse_than_value_error(tmp_path, data):
    damaged = bytearray(gguf(BERT))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_header(written(tmp_path, bytes(damaged)))
    except ValueError as error:
        assert str(error)
