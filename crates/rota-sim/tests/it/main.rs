mod engine;
mod exhaustive;
mod watch;
