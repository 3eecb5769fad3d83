"""The stores of a stack server, on top of the SQL stores."""
