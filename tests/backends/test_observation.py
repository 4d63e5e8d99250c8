"""What servers say of their load, read from pages as they print them, and from anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import backends
from ghostllm.backends import observation
from ghostllm.backends.observation import (
    read_llamacpp_models,
    read_lmstudio,
    read_metrics,
    read_ollama,
    read_props,
    read_slots,
)
from ghostllm.config.kinds import Secret
from ghostllm.config.schema import BackendConfig
from ghostllm.jsonx import dumps
from ghostllm.ports import Observed

VLLM = b"""\
# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 13000.0
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.76001e+09
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-0.6B"} 5.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-0.6B"} 12.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="Qwen/Qwen3-0.6B",reason="capacity"} 7.0
# TYPE vllm:engine_sleep_state gauge
vllm:engine_sleep_state{engine="0",model_name="Qwen/Qwen3-0.6B",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",model_name="Qwen/Qwen3-0.6B",sleep_state="weights_offloaded"} 0.0
vllm:engine_sleep_state{engine="0",model_name="Qwen/Qwen3-0.6B",sleep_state="discard_all"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen3-0.6B"} 0.734
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",\
gpu_memory_utilization="0.9",num_cpu_blocks="None",num_gpu_blocks="573",num_gpu_blocks_override="None"} 1.0
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3",model_name="Qwen/Qwen3-0.6B"} 4.0
vllm:e2e_request_latency_seconds_count{engine="0",model_name="Qwen/Qwen3-0.6B"} 4.0
"""
OLD_VLLM = b"""\
vllm:num_requests_running{model_name="m"} 2.0
vllm:num_requests_swapped{model_name="m"} 9.0
vllm:num_requests_waiting{model_name="m"} 0.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.35
vllm:cpu_cache_usage_perc{model_name="m"} 0.9
"""
ENGINES = b"""\
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} NaN
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.4
vllm:cache_config_info{block_size="16",engine="0",kv_cache_size_tokens="350464",num_gpu_blocks="87616"} 1
vllm:cache_config_info{block_size="16",engine="1",kv_cache_size_tokens="350464",num_gpu_blocks="87616"} 1
"""
SGLANG = b"""\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct",tp_rank="0"} 162.0
sglang:num_running_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct",tp_rank="1"} 162.0
sglang:token_usage{model_name="meta-llama/Llama-3.1-8B-Instruct",tp_rank="0"} 0.28
sglang:num_queue_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct",priority="",tp_rank="0"} 2826.0
sglang:num_queue_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct",priority="1",tp_rank="0"} 26.0
sglang:max_total_num_tokens{model_name="meta-llama/Llama-3.1-8B-Instruct"} 471258.0
"""
LLAMACPP = b"""\
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 4
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 46
llamacpp:predicted_tokens_seconds nan
"""
TGI = b"# TYPE tgi_batch_current_size gauge\ntgi_batch_current_size 4\ntgi_queue_size 7\n"

PAGES = {
    "vLLM": (
        VLLM,
        Observed(running=5, waiting=12, kv_usage=0.734, cache_tokens=9168, started=1.76001e9, sleeping=False),
    ),
    "vLLM, as it was": (OLD_VLLM, Observed(running=2, waiting=0, kv_usage=0.35)),
    "vLLM with two engines": (
        ENGINES,
        Observed(running=5, waiting=1, kv_usage=0.4, cache_tokens=1_401_856),
    ),
    "SGLang": (SGLANG, Observed(running=162, waiting=2826, kv_usage=0.28, cache_tokens=471_258)),
    "llama.cpp": (LLAMACPP, Observed(running=4, waiting=46)),
    "llama.cpp, as it was": (b"llamacpp:kv_cache_usage_ratio 0.5\n", Observed(kv_usage=0.5)),
    "TGI": (TGI, Observed(running=4, waiting=7)),
    "another server": (b"# TYPE http_requests_total counter\nhttp_requests_total 5\n", Observed()),
    "HTML": (b"<!doctype html><title>vllm:num_requests_running 5</title>", Observed()),
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_metrics(name: str, end: bytes) -> None:
    page, expected = PAGES[name]
    assert read_metrics({}, page.replace(b"\n", end)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'vllm:num_requests_waiting{model_name="a}b{ 9"} 3 1760000000000', Observed(waiting=3)),
        (b'vllm:num_requests_waiting{model_name="a\\"} 9"} 3', Observed(waiting=3)),
        (b"vllm:num_requests_waiting\t3", Observed(waiting=3)),
        (b"vllm:num_requests_waiting -3", Observed()),
        (b"vllm:num_requests_waiting +Inf", Observed()),
        (b"vllm:num_requests_waiting 1e300", Observed()),
        (b"vllm:num_requests_waiting ", Observed()),
        (b"vllm:num_requests_waiting{ 3", Observed()),
        (b"vllm:kv_cache_usage_perc 55.0", Observed(kv_usage=0.55)),
        (b'vllm:engine_sleep_state{sleep_state="awake"} 0', Observed(sleeping=True)),
        (b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1', Observed()),
        (b'vllm:cache_config_info{enable_prefix_caching="False"} 1', Observed(cache_tokens=0)),
        (
            b'vllm:cache_config_info{block_size="999999999",num_gpu_blocks="999999999"} 1',
            Observed(cache_tokens=observation.LARGEST),
        ),
    ],
)  # fmt: skip
def test_one_line_of_metrics(line: bytes, expected: Observed) -> None:
    assert read_metrics({}, line) == expected
    assert read_metrics({}, b"# HELP x\n" + line + b"\n# EOF\n") == expected


def test_llamacpp_says_in_a_field_when_it_began() -> None:
    assert read_metrics({b"process-start-time-unix": b"81234567"}, LLAMACPP).started == 81234567
    assert read_metrics({b"process-start-time-unix": b"yesterday"}, LLAMACPP).started is None


OLLAMA_PS = {
    "models": [
        {"name": "llama3.2:latest", "model": "llama3.2:latest", "size_vram": 1, "context_length": 4096},
        {"name": "old"},
        {"model": 5},
        "x",
    ]
}
LMSTUDIO = {"data": [{"id": "a", "state": "loaded"}, {"id": "b", "state": "not-loaded"}, {"id": "c"}]}
ROUTER = {"data": [{"id": "a", "status": {"value": "loaded"}}, {"id": "b", "status": {"value": "unloaded"}}]}
SLOTS = [{"id": 0, "is_processing": True}, {"id": 1, "is_processing": False}]


@pytest.mark.parametrize(
    ("read", "page", "expected"),
    [
        (read_ollama, OLLAMA_PS, Observed(loaded=frozenset({"llama3.2:latest", "old"}))),
        (read_ollama, {"models": []}, Observed(loaded=frozenset())),
        (read_ollama, {"models": None}, Observed(loaded=frozenset())),
        (read_ollama, {"error": "x"}, Observed()),
        (read_lmstudio, LMSTUDIO, Observed(loaded=frozenset({"a"}))),
        (read_lmstudio, {"data": [{"id": "a"}]}, Observed()),
        (read_lmstudio, {"error": "Unexpected endpoint"}, Observed()),
        (read_llamacpp_models, ROUTER, Observed(loaded=frozenset({"a"}))),
        (read_llamacpp_models, {"data": [{"id": "a", "meta": {}}]}, Observed()),
        (read_props, {"total_slots": 4, "is_sleeping": True}, Observed(slots=4, sleeping=True)),
        (read_props, {"total_slots": 4}, Observed(slots=4)),
        (read_props, {"total_slots": True, "is_sleeping": 0}, Observed()),
        (read_slots, SLOTS, Observed(running=1, slots=2)),
        (read_slots, [{"id": 0, "state": 1}, {"id": 1, "state": 0}], Observed(running=1, slots=2)),
        (read_slots, [], Observed()),
    ],
)
def test_pages_of_json(read, page, expected: Observed) -> None:
    assert read({}, dumps(page)) == expected


READERS = (read_metrics, read_ollama, read_lmstudio, read_llamacpp_models, read_props, read_slots)
NAMES = st.sampled_from(sorted(observation.METRICS_READ))
LINES = st.builds(
    lambda name, rest: name + rest,
    NAMES,
    st.one_of(st.binary(), st.sampled_from([b'{a="', b"{} ", b" 1", b'{num_gpu_blocks="1e400",x="'])),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "models", "id", "state", "status", "value", "total_slots", "name"]),
            inner,
            max_size=4,
        )
    ),
)


@given(st.one_of(st.binary(), st.lists(LINES).map(b"\n".join), JSON.map(dumps)))
def test_no_page_makes_a_reader_raise_or_invent(body: bytes) -> None:
    for read in READERS:
        found = read({b"process-start-time-unix": body[:20]}, body)
        for count in (found.running, found.waiting, found.cache_tokens, found.slots):
            assert count is None or 0 <= count <= observation.LARGEST
        assert found.kv_usage is None or 0 <= found.kv_usage <= 1
        assert found.loaded is None or all(isinstance(name, str) and name for name in found.loaded)


def translator(kind, url="http://gpu:8000/v1"):
    config = BackendConfig(
        name="b", kind=kind, url=url, api_key=Secret("sk-very-secret"), headers={"X-Tenant": "t-secret"}
    )
    return backends.translator(config, 1 << 20)


@pytest.mark.parametrize(
    ("kind", "url", "probe", "pages"),
    [
        ("vllm", "https://gpu/v1", "/health", ["/metrics"]),
        ("llamacpp", "http://gpu/v1", "/health", ["/props", "/models", "/metrics", "/slots"]),
        ("ollama", "http://gpu", "/api/version", ["/api/ps"]),
        ("lmstudio", "http://gpu/v1", "/v1/models", ["/api/v0/models"]),
        ("transformers", "http://gpu/v1", "/health", []),
        ("openai", "http://gpu/v1", "/v1/models", ["/metrics"]),
        ("openai", "https://api.example.com/v1", "", []),
        ("anthropic", "https://api.example.com", "", []),
    ],
)
def test_where_each_kind_is_looked_at(kind, url, probe, pages) -> None:
    looks = translator(kind, url).looks()
    assert looks.probe == probe
    assert [page.path for page in looks.pages] == pages


@pytest.mark.parametrize("kind", ["vllm", "ollama", "anthropic", "openai"])
def test_a_key_is_sent_only_where_it_was_asked_for(kind) -> None:
    backend = translator(kind)
    plain = backend.look_request("/health")
    assert (plain.method, plain.path, plain.body) == ("GET", "/health", [])
    assert b"secret" not in b"".join(value for _, value in plain.headers)
    keyed = dict(backend.look_request("/metrics", keyed=True).headers)
    assert b"sk-very-secret" in keyed.get(b"authorization", keyed.get(b"x-api-key"))
    assert keyed[b"x-tenant"] == b"t-secret"
