"""Named storage backends for LLM stack servers."""
