//! Whole jobs through `tercio::launch`: how they start, what passes through them, and that nothing is left of them however they end.
//!
//! This executable plays every part: test, launcher, guard, agent and rank. It finds itself by /proc/self/exe, and nothing by PATH but
//! the shell's own tools.

mod cores;
mod ends;
mod parts;
mod streams;
mod support;
mod survivors;

fn main() {
    tercio::launch::role();
    parts::play();
    let arguments = libtest_mimic::Arguments::from_args();
    let tests = [
        ends::tests(),
        streams::tests(),
        survivors::tests(),
        cores::tests(),
    ]
    .concat_trials();
    libtest_mimic::run(&arguments, tests).exit();
}

/// Trials of several modules in one list.
trait Concat {
    fn concat_trials(self) -> Vec<libtest_mimic::Trial>;
}

impl<const N: usize> Concat for [Vec<libtest_mimic::Trial>; N] {
    fn concat_trials(self) -> Vec<libtest_mimic::Trial> {
        self.into_iter().flatten().collect()
    }
}
