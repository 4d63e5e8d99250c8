"""Ollama's own dialect (`/api/…`), which loses nothing that its OpenAI routes drop silently."""
