"""The command line, `posterity`."""
