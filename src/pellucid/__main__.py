"""`python -m pellucid` is the command `pellucid`."""

from pellucid.cli.app import main

main()
