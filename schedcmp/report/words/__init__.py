"""What a run shows, in words."""
