"""Calls as they begin and end: polled call lists, a tracker of open calls, and the sessions of finished ones."""
