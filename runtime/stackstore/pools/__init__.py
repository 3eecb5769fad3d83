"""One pool per database and process, whatever names point at it."""
