"""The persistent state of an export: what is done, what is pending, and rows staged for their file."""
