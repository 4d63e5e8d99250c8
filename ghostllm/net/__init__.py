"""Sockets and event loops; the only owner of both.

Glossary: a `Server` listens and owns `Connection`s; each reads requests and hands them to the application
with a `Responder`. A `Client` keeps connections to one `Origin`; each `UpstreamCall` runs on one of them and
tells its `Sink`. Nothing here waits in a coroutine where a transport callback will do: bytes move from
`data_received` of one socket to `write` of the other in one call stack.
"""
