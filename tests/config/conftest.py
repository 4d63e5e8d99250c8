"""What several tests of the configuration start from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "ghostllm.example.toml"


@pytest.fixture
def example():
    return EXAMPLE.read_text()


@pytest.fixture
def uncommented_example(example):
    """With every `#key = value` and `#[table]` line in force."""
    return re.sub(r"^#(?=\[|[a-z_]+ = )", "", example, flags=re.MULTILINE)
