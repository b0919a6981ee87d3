"""The benchmarks, one loader a file, each in its official layout."""
