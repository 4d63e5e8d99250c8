"""What all tests share: how hard Hypothesis tries. `--hypothesis-profile=few` is for runs that repeat what
another run has tried in full: they look for what differs between Pythons, not for new examples.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("full", deadline=None)
settings.register_profile("few", deadline=None, max_examples=15)
settings.load_profile("full")
