"""`python ghostllm.py serve`, and the zipapp's way in. Everything is in the package beside it."""

import sys

if __name__ == "__main__":
    from ghostllm.cli.main import main

    sys.exit(main())
