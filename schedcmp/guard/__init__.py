"""What comes from elsewhere and must do no harm: code that hangs or ends, signals, a full memory, commands in texts."""
