//! Machine peaks and shapes that the benchmarks share.
