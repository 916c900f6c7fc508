//! Rotators against their real targets.

mod postgres;
