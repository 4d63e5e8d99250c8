"""What several nodes share through Redis or Valkey: answers, rate limits, budgets, and news (revoked keys,
breakers that opened elsewhere).

- A *link* (`link`) is the way to the server: commands of all requests go over it in batches, none waits
  longer than the configured timeout, and after a failure it is *away*: not asked for a moment. Whoever needs
  it is told by `Away`, and follows its policy. `redis_client` is the one module that knows redis-py.
- What is taken of a limit before it is used is a *hold*; a node renews the *lease* of its holds as long as it
  lives, so those of a dead one are free after that time.
- The server's clock counts, so the nodes' clocks need not agree. All keys of a cluster begin with
  `{prefix}:`; the braces keep them in one slot, as scripts need it.
"""
