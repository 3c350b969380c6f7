"""`python -m bimixjax`: the command line, where `bimix` is not on the path."""

from bimixjax.cli import main

if __name__ == "__main__":
    main()
