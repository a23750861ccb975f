"""`python -m sat2map` is `sat2map`."""

from sat2map.cli.app import main

if __name__ == "__main__":
    main()
