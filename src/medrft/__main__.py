"""`python -m medrft` is `medrft`."""

from medrft.cli import entry

if __name__ == "__main__":
    entry()
