"""Fake LLM servers with faults on demand, each in a process of its own, speaking bytes.

*kind*: which server's formats are spoken (openai, vllm, llamacpp, transformers, lmstudio, ollama,
anthropic).
*behaviour*: what happens to one request, as a JSON object; `behaviour` has the vocabulary.
*prefill*: the beginning of an answer that comes with its request, to be gone on with.
*plan*: the steps (send, sleep, stall, cut…) that a behaviour comes to for one request.
*record*: what the server remembers of one request, for tests to look at.

`upstream` is the process, `fake` starts and commands it from tests, `gateway` does the same for GhostLLM
itself, and `raw` is a client that sends bytes as they are written and shows them as they came.
"""
