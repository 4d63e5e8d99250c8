"""Answers that are remembered: what makes two requests the same (`key`), which are answered from memory and
which answers may be kept (`policy`), where they are kept (`memory`, and a store that nodes share), and all of
it together (`answers`). The answers themselves are recordings of `api.recording`.

Times are seconds: `now` of the monotonic clock; `wall` since 1970, for what other nodes read.
"""
