"""One short connection to a database now and then: does the login work, and who uses which."""
