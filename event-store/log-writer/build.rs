//! The migrations are embedded: a change of theirs is a change of this crate.

fn main() {
    println!("cargo:rerun-if-changed=../../schemas/postgres/log");
    println!("cargo:rerun-if-changed=../../schemas/postgres/keys");
}
