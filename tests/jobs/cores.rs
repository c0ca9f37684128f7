//! Cores: each rank one of its own where all can have one, and never the same as another job's.
use crate::support::{Mark, trial};
use std::process::Command;

pub fn tests() -> Vec<libtest_mimic::Trial> {
    vec![trial("jobs_share_the_cores_out_among_them", shared_out)]
}

/// A launcher in a network namespace: claims are seen only there, so that other jobs of this machine do not matter.
fn namespaced() -> Option<Command> {
    let mut probe = Command::new("unshare");
    let works = probe
        .args(["-rn", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    works.then(|| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "/proc/self/exe"]);
        command
    })
}

fn shared_out() {
    if namespaced().is_none() {
        println!("no network namespaces here: not tested");
        return;
    }
    let _ = Mark::new();
}
