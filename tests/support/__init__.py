"""What the tests share: engines to test, engines to compare with, and the search for leaks."""
