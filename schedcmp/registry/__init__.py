"""The registry: which schedulers there are, what they are called, how they are built, what they work with."""
