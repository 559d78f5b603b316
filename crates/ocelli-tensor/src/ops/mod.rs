//! The operations, one file or folder each: its public functions, kernels, naive reference and tests together.
