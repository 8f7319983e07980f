"""Problems for training and evaluation: sources in, `Problem`s out. Knows nothing of training."""
