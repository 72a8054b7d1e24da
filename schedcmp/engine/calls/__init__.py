"""Calls of models, taken apart into rows and put together: which fit one batch, joining them, splitting the answer."""
