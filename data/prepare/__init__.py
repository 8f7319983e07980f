"""From raw problem sets to a clean training set."""
