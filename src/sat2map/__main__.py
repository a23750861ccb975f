"""`python -m sat2map` is `sat2map`."""

from sat2map.cli.app import command

if __name__ == "__main__":
    command()
