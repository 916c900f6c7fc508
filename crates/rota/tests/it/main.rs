//! The command line, as its users run it: the built binary and nothing of its inside.

mod offline;
mod support;
