//! The command line, as its users run it: the built binary and nothing of its inside.

mod bad_input;
mod canary;
mod crash;
mod daemons;
mod house;
mod hygiene;
mod looking_after;
mod offline;
mod orders;
mod poke;
mod policies;
mod reading;
mod subjects;
mod support;
mod world;
