"""The receive buffer that all connections share.

An event loop asks for a buffer, fills it and reports the fill in one go (libuv's alloc and read callbacks,
asyncio's `recv_into`), so between two reports nobody else can be given it: one buffer serves every socket of
the process, and an idle connection holds no memory for reading. A memoryview, not a bytearray: under
asyncio's TLS a bytearray is filled with NULs instead of data (python/cpython#156275).
"""

from __future__ import annotations

SIZE = 256 * 1024
shared = memoryview(bytearray(SIZE))
