"""The sweep: a YAML file, checked and typed, and the cells it stands for. No torch here."""
