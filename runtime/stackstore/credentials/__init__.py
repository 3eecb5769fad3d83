"""Which logins a backend has, where they are read from, and which of them to use."""
