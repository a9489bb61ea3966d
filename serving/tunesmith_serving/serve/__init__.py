"""Serving a published model: check the folder, then become vLLM's OpenAI server."""
