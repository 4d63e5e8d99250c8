"""`python -m ghostllm serve`."""

import sys

from ghostllm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
