"""Scripts for the project's maintainers; nothing here is needed to run schedcmp."""
