"""From tokens to the kinds of answer: lists, sets, intervals, relations, quantities."""
