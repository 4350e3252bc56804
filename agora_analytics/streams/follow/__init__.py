"""Following calls: polled call lists, a tracker of open calls, and the sessions of finished ones."""
