"""A small stack server on Stackstore's runtime: an echo model whose completions are kept.

It knows the `stackstore` package and one directory, and nothing of Kubernetes.
"""
