//! Migrations are embedded: a new file must make the crate compile again.
fn main() {
    println!("cargo:rerun-if-changed=../schemas/postgres/views");
    println!("cargo:rerun-if-changed=../schemas/postgres/views_stable");
    println!("cargo:rerun-if-changed=../schemas/clickhouse");
}
