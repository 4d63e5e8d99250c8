"""Bytes to messages and back, without any I/O.

`h1` heads, `body` framing, `encoding` of bodies. Everything here takes bytes and gives bytes or messages;
what it cannot accept it refuses by an error of `ghostllm.errors`. Event streams are split where they are
understood: in `api`.
"""
