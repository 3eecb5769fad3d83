"""Things to try: the quickstart's manifests, a stack server, and the demo that runs them all."""
