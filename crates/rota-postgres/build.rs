//! `sqlx::migrate!` does not notice an added file.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
