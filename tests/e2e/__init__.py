"""The gateway as its users meet it: a process on a port, fake upstreams behind it, bytes in between."""
