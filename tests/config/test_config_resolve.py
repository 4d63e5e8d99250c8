"""Time limits: the nearest level that sets one wins, for each limit by itself."""

from __future__ import annotations

import itertools

from ghostllm.config.load import build
from ghostllm.config.resolve import ResolvedTimeouts, resolved_timeouts
from ghostllm.config.schema import BackendConfig, Config, ModelConfig
from ghostllm.config.sources import parse_text
from ghostllm.config.traffic import TargetConfig, Timeouts


def resolved(total_everywhere=None, backend=None, model=None, with_model=True):
    config = Config(timeouts=total_everywhere or Timeouts())
    entry = ModelConfig(name="m", targets=(TargetConfig(backend="b"),), timeouts=model or Timeouts())
    return resolved_timeouts(
        config, BackendConfig(name="b", timeouts=backend or Timeouts()), entry if with_model else None
    )


def test_built_in():
    expected = ResolvedTimeouts(
        connect=5, head=300, first_token=300, load=300, idle=120, total=600, stream_total=0
    )
    assert resolved() == expected
    assert resolved(with_model=False) == expected
    assert resolved(Config().timeouts) == expected


def test_every_combination_of_levels():
    for limit in ("connect", "head", "first_token", "idle", "total"):
        for everywhere, backend, model in itertools.product((None, 1.0), (None, 2.0), (None, 0.0)):
            answer = resolved(
                Timeouts(**{limit: everywhere}), Timeouts(**{limit: backend}), Timeouts(**{limit: model})
            )
            levels = (model, backend, everywhere, getattr(Config().timeouts, limit))
            assert getattr(answer, limit) == next(level for level in levels if level is not None)


def test_total_bounds_streams_only_where_it_is_meant():
    assert resolved(Timeouts(total=9.0)).stream_total == 0
    assert resolved(Timeouts(total=9.0), Timeouts(total=8.0)).stream_total == 8
    assert resolved(Timeouts(total=9.0), Timeouts(total=8.0), Timeouts(total=7.0)).stream_total == 7
    assert resolved(backend=Timeouts(total=8.0), model=Timeouts(total=0.0)).stream_total == 0


def test_a_partial_global_section_keeps_the_other_defaults():
    config = build(parse_text("[timeouts]\nidle = 1\n", "c"), {})
    assert config.timeouts == Timeouts(connect=5, head=300, first_token=300, load=300, idle=1, total=600)
