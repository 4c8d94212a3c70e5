"""`python -m robolearn.cli`."""

from robolearn.cli import main

main()
