//! The simulator: the real core and engine in a fake world, under a clock that jumps,
//! with every choice made by a seed.
//!
//! Deliberately absent: threads, real time, real IO. A run is a function of its seed.

pub mod chaos;
pub mod checker;
pub mod executor;
pub mod exhaustive;
pub mod figures;
pub mod mutants;
pub mod replica;
pub mod sim;
pub mod swarm;
