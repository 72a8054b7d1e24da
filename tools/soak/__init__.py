"""The attack campaign: `python -m tools.soak`. See docs/reliability.md."""
