"""Where work runs: Ray actors around plain classes. Nothing else in the project knows Ray."""
