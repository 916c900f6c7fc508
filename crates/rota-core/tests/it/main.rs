//! Tests of the core through its public face.

mod machine;
