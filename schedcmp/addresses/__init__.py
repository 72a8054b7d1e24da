"""A run kept at an address too: files there, who writes them, and what is sent while it is being made."""
