"""Budgets: what all consumers of a database may hold together, and who gets how much of it."""
