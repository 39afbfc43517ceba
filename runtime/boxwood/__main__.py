"""`python -m boxwood`: the same as the program `boxwood`."""

from boxwood.cli.main import entry

if __name__ == "__main__":
    entry()
