//! `tercio`: the launcher. Called as `mpirun` or `mpiexec` it is `tercio run`.
fn main() {
    tercio::launch::role();
    std::process::exit(tercio_launcher::main(std::env::args_os().collect()));
}
