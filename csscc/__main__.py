"""``python -m csscc``, and what the command ``csscc`` runs: signals are handled before anything else is imported."""

from csscc.interrupts import listen


def main() -> None:
    """Run the command line."""
    listen()
    from csscc.cli import main as run

    run()


if __name__ == "__main__":
    main()
