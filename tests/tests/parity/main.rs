//! Agreement with PyTorch, and with Ocelli itself. One program for all of them: each would compile the generic code of the crates below anew.

mod gradients;
mod losses;
mod ops;
mod optimizers;
mod overfit;
mod recomputing;
mod steps;
mod threads;
mod training;
mod zoo;
