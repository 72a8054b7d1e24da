"""Images and videos as files that say how they were made, and what is asked of their pixels."""
