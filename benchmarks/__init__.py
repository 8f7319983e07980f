"""What we measure, with the command that measures it; results are in docs/benchmarks.md."""
