"""The console script, and `python -m bertgrid_tf`."""

from bertgrid_tf.system.process import run_command


def main() -> None:
    """Run the command line in this process, whose signals and standard streams it takes over first."""
    run_command(_run)


def _run() -> None:
    from bertgrid_tf.cli import main

    main()


if __name__ == "__main__":
    main()
