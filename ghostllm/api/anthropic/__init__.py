"""Anthropic's dialect (`/v1/messages`), as a door and as the language of backends.

`door` is what clients meet. Backends of the same dialect are served by `passthrough`, all others by the
neutral form, with a `reader` or a `writer` for each way.
"""
