"""Speed, scaling and memory of pctheory beside backpropagation and the dense route: `python -m benchmarks`."""
