"""Restart the pods that can't take a change hot: whom, when, and one after the other."""
