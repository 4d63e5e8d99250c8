"""Configuration: what an operator may say, how it is read, and what is wrong with it.

- *schema*: the frozen dataclasses that the rest of GhostLLM reads; the one place where a key, its default and
  its meaning are written.
- *source*: one place settings come from. Later ones win: built-in defaults, the file, its chosen
  `[profile.NAME]`, `GHOSTLLM_…` environment variables, command-line flags.
- *tree*: a source's settings as nested dicts, before they are checked.
- *path*: where a setting is in the tree, such as `backends[1].url`; *place*: where it was written (a file and
  line, a variable, a flag).
- *problem*: one mistake, as a line of text with its path and place; all are collected before refusing.
"""
