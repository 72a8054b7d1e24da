"""Engines: from cells to results. They know nothing of files, reports or the terminal."""
