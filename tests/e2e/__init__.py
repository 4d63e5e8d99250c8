"""The gateway as its users meet it: a process on a port, fake upstream processes behind it, bytes in between."""
