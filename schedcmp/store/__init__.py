"""A run's folder, the only thing that reports read: its database and its files. No torch here, and no report."""
