"""Read everything, decide purely, write what differs."""
