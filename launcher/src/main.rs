//! `tercio`: the launcher.
fn main() {
    tercio::launch::role();
}
