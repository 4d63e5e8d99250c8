"""The forms in which GhostLLM leaves this repository, each built and used."""
