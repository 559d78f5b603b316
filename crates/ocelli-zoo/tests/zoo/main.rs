//! The zoo's models. One program for all of them: each would compile the generic code of the crates below anew.

mod backbones;
mod loading;
mod variants;
