"""What can be known of a checkpoint before it is loaded."""
