"""The only part that speaks HTTP: a thin client over the official one, and metadata watches."""
