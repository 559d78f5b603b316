//! Layers and checkpoints. One program for all of them: each would compile the generic code of the crates below anew.

mod checkpoints;
mod deformable;
mod layers;
mod training;
