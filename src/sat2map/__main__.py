"""`python -m sat2map` is `sat2map`."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line as a process of its own."""
    gc.set_threshold(100_000, 20, 100)  # imports make no garbage, and looking for it takes a while
    from sat2map.cli.app import command

    command()


if __name__ == "__main__":
    main()
