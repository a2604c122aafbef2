"""`python -m flows` is the command line."""

from flows.commands.main import main

if __name__ == "__main__":
    main()
