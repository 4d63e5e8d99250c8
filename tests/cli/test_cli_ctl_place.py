"""Where `ghostctl` finds the gateway and its key: flag, variable, own file."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.cli.ctl import main
from ghostllm.cli.ctl_place import Misused, find, own_file, sound_key, sound_url
from tests.cli.peer import peer

MODELS = {"/v1/models": (200, {"data": []})}


@pytest.fixture
def file(tmp_path):
    """Writes the own file, and gives the environment in which it is found."""

    def write(text, mode=0o600):
        path = tmp_path / ".config" / "ghostllm" / "ctl.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return {"HOME": str(tmp_path)}

    return write


def test_flag_before_variable_before_file(file):
    environ = file('url = "http://file:1"\nkey = "k-file"\ntimeout = 9\nmodel = "m"\n')
    place = find(None, None, environ)
    assert (place.url, place.key, place.timeout, place.model) == ("http://file:1", "k-file", 9, "m")
    assert place.url_from == place.key_from == place.file
    environ |= {"GHOSTLLM_URL": "http://variable:1/", "GHOSTLLM_KEY": "k-variable", "GHOSTLLM_MODEL": "other"}
    place = find(None, None, environ)
    assert (place.url, place.key, place.model) == ("http://variable:1", "k-variable", "other")
    assert (place.url_from, place.key_from) == ("GHOSTLLM_URL", "GHOSTLLM_KEY")
    place = find("http://flag:1", "k-flag", environ)
    assert (place.url, place.key, place.url_from, place.key_from) == (
        "http://flag:1", "k-flag", "--url", "--key")  # fmt: skip


def test_nothing_said():
    place = find(None, None, {})
    assert (place.url, place.url_from, place.key, place.file) == (
        "http://127.0.0.1:8080", "the default", "", "")  # fmt: skip


def test_where_the_file_is():
    assert own_file({"HOME": "/h"}) == "/h/.config/ghostllm/ctl.toml"
    assert own_file({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == "/x/ghostllm/ctl.toml"
    assert own_file({"HOME": "/h", "GHOSTLLM_CTL_CONFIG": "/own.toml"}) == "/own.toml"


def test_a_key_from_elsewhere(file, tmp_path):
    (tmp_path / "secret").write_text("k-secret\n")
    environ = file(f'key = "file:{tmp_path}/secret"\n')
    assert find(None, None, environ).key == "k-secret"
    environ = file('key = "env:TEAM"\n')
    assert find(None, None, environ | {"TEAM": "k-team"}).key == "k-team"
    with pytest.raises(Misused, match="variable TEAM is not set"):
        find(None, None, environ)
    with pytest.raises(Misused, match="No such file"):
        find(None, None, file('key = "file:/nowhere/at/all"\n'))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_not_used(file, mode, capsys):
    environ = file('key = "k-x"\n', mode)
    assert main(["models"], environ) == 2
    shown = capsys.readouterr().err
    assert "others can read it: chmod 600 " in shown and "k-x" not in shown
    assert find(None, None, file('url = "http://h:1"\n', mode)).url == "http://h:1", (
        "without a key anybody may"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("url = 3\n", "url is a string"),
        ('timeout = "x"\n', "timeout is a number"),
        ("timeout = true\n", "timeout is a number"),
        ("timeout = 0\n", "seconds above 0"),
        ("timeout = nan\n", "seconds above 0"),
        ('ulr = "x"\n', "no setting 'ulr'; there are: url, key, timeout, model"),
        ("url = \n", "at line 1"),
        ('url = "localhost"\n', "ctl.toml: expected a URL such as"),
        ('key = "a b"\n', "visible ASCII"),
    ],
)
def test_a_file_that_is_wrong_is_named(file, capsys, text, says):
    assert main(["models"], file(text)) == 2
    shown = capsys.readouterr().err
    assert says in shown and "ctl.toml" in shown and shown.count("\n") == 1


def test_a_variable_that_is_wrong_is_named(capsys):
    assert main(["models"], {"GHOSTLLM_URL": "localhost"}) == 2
    assert "GHOSTLLM_URL: expected a URL" in capsys.readouterr().err
    assert main(["models"], {"GHOSTLLM_KEY": "k x"}) == 2
    shown = capsys.readouterr().err
    assert "GHOSTLLM_KEY: a key is visible ASCII" in shown and "k x" not in shown


def test_a_folder_in_the_files_place(tmp_path, capsys):
    assert main(["models"], {"GHOSTLLM_CTL_CONFIG": str(tmp_path)}) == 2
    assert "directory" in capsys.readouterr().err


def test_the_file_is_used(file, capsys):
    with peer(MODELS) as (url, heads):
        environ = file(f'url = "{url}"\nkey = "k-own"\n')
        assert main(["models"], environ) == 0
    assert "authorization: Bearer k-own\r\n" in heads[0]
    path = own_file(environ)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_whose_key_was_refused(file, capsys):
    refused = {"/v1/models": (401, {"error": {"message": "no"}})}
    with peer(refused) as (url, _):
        assert main(["models", "--url", url], file('key = "gk_0123456789abcdefWXYZ"\n')) == 1
        shown = capsys.readouterr().err
        assert "does not take the key of /" in shown and "(it ends in WXYZ)" in shown and "cdefW" not in shown
        assert main(["models", "--url", url], {"GHOSTLLM_KEY": "short"}) == 1
        shown = capsys.readouterr().err
        assert "the key of GHOSTLLM_KEY:" in shown and "short" not in shown
        assert main(["models", "--url", url], file("")) == 1
        shown = capsys.readouterr().err
        assert "wants a key and none was given: --key KEY, GHOSTLLM_KEY or `key` in /" in shown


@given(st.text())
def test_any_text_is_a_url_or_not(text):
    assert sound_url(text) in (True, False) and sound_key(text) in (True, False)
    if sound_url(text):
        assert "@" not in text and text.startswith(("http", "HTTP"))
