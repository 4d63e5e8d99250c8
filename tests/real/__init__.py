"""Through the gateway to real LLM servers, with the real OpenAI SDK."""
