"""From an image that says how it was made to a sweep around it. What other programs write is read here."""
