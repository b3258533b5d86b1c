"""Programs that tests drive, such as compilers and browsers."""

import os
import shutil
import unittest

# Set where all of them must be there, as in continuous integration: a test that
# is skipped shows nothing.
REQUIRED = "TFSAC_REQUIRE_TOOLS"


def need(*names):
    """Finds programs; without one the test is skipped, or fails.

    Args:
        *names: Those of the programs; of `"a|b"` either will do.

    Returns:
        The path of each.

    Raises:
        unittest.SkipTest: If one is missing.
        AssertionError: If one is missing where `REQUIRED` is set.
    """
    found = []
    for name in names:
        paths = filter(None, map(shutil.which, name.split("|")))
        path = next(paths, None)
        if path is None and os.environ.get(REQUIRED):
            raise AssertionError(f"Expected {name}, for {REQUIRED} is set.")
        if path is None:
            raise unittest.SkipTest(f"There is no {name}.")
        found.append(path)
    return found
