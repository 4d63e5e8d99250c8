"""GhostLLM: an LLM gateway that fits in one file. The README's "How it is built" is the map."""

__version__ = "0.1.0"
