"""Say "look at this again" for everything that changes; nothing is decided here."""
