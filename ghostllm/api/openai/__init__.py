"""OpenAI's dialect: chat completions, completions and embeddings, as a door and as the language of backends.

`door` is what clients meet. Backends of the same dialect are served by `passthrough`, with `frame`, `events`
and `usage` to understand what passes; all others by the neutral form, with a `reader` or a `writer` for each
way.
"""
