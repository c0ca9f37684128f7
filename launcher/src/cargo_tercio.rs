//! `cargo tercio ...` is `tercio ...`.
fn main() {
    tercio::launch::role();
}
