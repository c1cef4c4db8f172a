"""``python -m turbo``: the command line, where ``turbo`` is not on the path."""

from turbo.cli import main

if __name__ == "__main__":
    main()
