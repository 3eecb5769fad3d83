"""SQL stores."""
