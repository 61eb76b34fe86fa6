"""`python -m voltscreen` is the command `voltscreen`."""

from voltscreen.cli.app import main

if __name__ == "__main__":
    main()
