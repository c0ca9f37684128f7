//! `cargo tercio ...` is `tercio ...`.
fn main() {
    tercio::launch::role();
    let mut words: Vec<_> = std::env::args_os().collect();
    // Cargo hands its own subcommand's name on as the first argument.
    if words.get(1).is_some_and(|word| word == "tercio") {
        words.remove(1);
    }
    if let Some(name) = words.first_mut() {
        *name = "tercio".into();
    }
    std::process::exit(tercio_launcher::main(words));
}
