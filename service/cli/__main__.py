"""`python -m service.cli` is `errata`."""

from service.cli import main

main()
