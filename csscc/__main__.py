"""``python -m csscc``."""

from csscc.cli import main

main()
