mod engine;
mod exhaustive;
