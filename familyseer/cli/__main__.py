"""``python -m familyseer.cli``: the command line where its script is not on the path."""

from familyseer.cli.main import main

if __name__ == "__main__":
    main()
