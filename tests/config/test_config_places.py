"""The lines that messages name: right for every key, whatever TOML surrounds it."""

from __future__ import annotations

import contextlib
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.config.sources import parse_text
from ghostllm.config.toml_places import toml_lines

TEXT = '''# comment with [brackets] and "quotes"
a = 1  # trailing = comment
"b c" = """
[not.a.table]
x = 1
"""
'd.e' = ['#', """
]""", # ] comment
 2]
f.g = {h = "]", i = [1, {j = 2}]}
[t]
a = \'\'\'
z = 'quotes' ''\'\'\'
b = "\\"]"
[t.u] # deep
a = """\\"""
still"""
[[l]]
a = 1
[l.sub]
b = 2
[[l.inner]]
c = 3
[[l.inner]]
c = 4
[[ l ]]
a = 5
[ l . "s t" ]
d = 6
[[l.inner]]
c = 7
'''


def test_a_text_with_everything():
    tomllib.loads(TEXT)
    lines = toml_lines(TEXT)
    expected = {
        ("a",): 2,
        ("b c",): 3,
        ("d.e",): 7,
        ("f",): 10,
        ("f", "g"): 10,
        ("t",): 11,
        ("t", "a"): 12,
        ("t", "b"): 14,
        ("t", "u"): 15,
        ("t", "u", "a"): 16,
        ("l",): 18,
        ("l", 0): 18,
        ("l", 0, "a"): 19,
        ("l", 0, "sub"): 20,
        ("l", 0, "sub", "b"): 21,
        ("l", 0, "inner"): 22,
        ("l", 0, "inner", 0): 22,
        ("l", 0, "inner", 0, "c"): 23,
        ("l", 0, "inner", 1): 24,
        ("l", 0, "inner", 1, "c"): 25,
        ("l", 1): 26,
        ("l", 1, "a"): 27,
        ("l", 1, "s t"): 28,
        ("l", 1, "s t", "d"): 29,
        ("l", 1, "inner"): 30,
        ("l", 1, "inner", 0): 30,
        ("l", 1, "inner", 0, "c"): 31,
    }
    assert lines == expected


VALUES = st.sampled_from(
    [
        "1",
        '"#"',
        "'['",
        '"""\n]\n"""',
        "'''\n[[x]]\na = 1\n'''",
        "[\n1, # ]\n\n2]",
        "{a = ']'}",
        '"\\""',
        '""""a"""""',
        '"""\\\n  a"""',
        "2026-01-01 07:00:00",
        "[[\"]\"], ['''\n''']]",
    ]
)


@given(st.lists(st.tuples(VALUES, st.integers(0, 2), st.booleans())), st.sampled_from(["\n", "\r\n"]))
def test_keys_are_where_they_were_put(items, newline):
    text, expected = "", {}
    for index, (value, blanks, table) in enumerate(items):
        text += "\n" * blanks
        if table:
            text += f"[[t{index}]] # ]\n"
        expected[index] = text.count("\n") + 1
        text += f"k{index} = {value}\n"
    data = parse_text(text.replace("\n", newline), "c")
    if newline == "\n":
        assert tomllib.loads(text) == data

    def places(table):
        for key, value in table.items():
            if key.startswith("k"):
                yield int(key[1:]), table.place_of(key)
            elif key.startswith("t"):
                yield from places(value[0])

    assert dict(places(data)) == {index: f"c:{line}" for index, line in expected.items()}


@given(st.text(alphabet="a.=[]\"'{}#\n\\ 1,", max_size=60))
def test_any_text_ends(text):
    with contextlib.suppress(tomllib.TOMLDecodeError):  # of a key: no parser has accepted this text
        toml_lines(text)
