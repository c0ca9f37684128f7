//! Whole jobs through `tercio::launch`: how they start, what passes through them, and that nothing is left of them however they end.
//!
//! This executable plays every part: test, launcher, guard, agent and rank. It finds itself by /proc/self/exe, and nothing by PATH but
//! the shell's own tools.

mod across;
mod alone;
mod cores;
mod cpu;
mod ends;
mod exchange;
mod far;
#[cfg(feature = "serde")]
mod objects;
mod parts;
mod ranks;
mod rests;
mod shared;
mod sockets;
mod spawn;
mod spawn_ends;
mod streams;
mod support;
mod survivors;
mod traffic;

fn main() {
    tercio::launch::role();
    parts::play();
    let arguments = libtest_mimic::Arguments::from_args();
    let modules = vec![
        across::tests(),
        alone::tests(),
        ends::tests(),
        exchange::tests(),
        ranks::tests(),
        rests::tests(),
        shared::tests(),
        sockets::tests(),
        far::tests(),
        spawn::tests(),
        spawn_ends::tests(),
        streams::tests(),
        survivors::tests(),
        cores::tests(),
        traffic::tests(),
        #[cfg(feature = "serde")]
        objects::tests(),
    ];
    let tests = modules.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, tests).exit();
}
