mod engine;
mod exhaustive;
mod mutants;
mod repeats;
mod watch;
