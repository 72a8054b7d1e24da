"""`python -m schedcmp`, and the `schedcmp` script: nothing of a command is imported before Ctrl-C has its meaning."""

try:
    from schedcmp.guard.interrupts import end_at_once

    end_at_once()
except KeyboardInterrupt:
    raise SystemExit(130) from None


def command() -> None:
    """The command of `sys.argv`, and the end of the process."""
    from schedcmp.cli import command

    command()


if __name__ == "__main__":
    command()
