"""What a configuration is made of, read again and again."""

from __future__ import annotations

import pytest

from ghostllm.config.inputs import Inputs, Source
from ghostllm.errors import ConfigError


def test_the_file_again_under_the_same_flags(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[log]\nlevel = "debug"\n[profile.p.log]\nformat = "text"\n')
    inputs = Inputs(
        str(path), environ={"GHOSTLLM_LOG_ACCESS": "false"}, profile="p", overrides=[("state.responses", "7")]
    )
    for level in ("debug", "error"):
        path.write_text(path.read_text().replace("debug", level))
        config = inputs.build(inputs.read())
        assert (config.log.level, config.log.format, config.log.access) == (level, "text", False)
        assert config.state.responses == 7.0


def test_an_earlier_text_is_what_its_name_says(tmp_path):
    inputs = Inputs(None, environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert inputs.build(Source("x.yaml", "log: {level: error}")).log.level == "error"
    assert inputs.build(Source("x.toml", '[log]\nlevel = "error"')).log.level == "error"
    with pytest.raises(ConfigError, match="x.toml:1: not valid TOML"):
        inputs.build(Source("x.toml", "log: {level: error}"))


def test_a_file_that_appears_is_found_and_one_that_goes_is_missed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = Inputs(None, environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert inputs.read() == Source("", "")
    (tmp_path / "ghostllm.toml").write_text("# here")
    assert inputs.read() == Source("ghostllm.toml", "# here")
    (tmp_path / "ghostllm.toml").unlink()
    with pytest.raises(ConfigError, match="ghostllm.toml: cannot be read"):
        inputs.read()


def test_what_is_no_text(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Inputs(str(tmp_path / "c.toml"), environ={}).read()
