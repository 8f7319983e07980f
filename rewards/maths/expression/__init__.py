"""From tokens to trees of a fixed set of operations, and whether two trees are the same."""
