//! The one way in which a job ends, whatever the cause: told to end, killed, swept until nothing is left.
use super::ranks::Rank;
use crate::sys::process;
use std::os::fd::AsFd;

/// Sends `signal` to every rank's group, to the processes that claimed ranks, and to what was adopted.
pub(super) fn signal_all(ranks: &[Rank], signal: i32) {
    for rank in ranks {
        // The process started for the rank was not waited for, so its number is still its own and its group's.
        let _ = process::signal_group(rank.pid, signal);
        // It may have joined another group, and its claimant may have made one of its own.
        let _ = process::signal(rank.process.as_fd(), signal);
        if let Some(claimant) = &rank.claimant {
            let _ = process::signal(claimant.process.as_fd(), signal);
        }
    }
    for child in process::children() {
        if !ranks.iter().any(|rank| rank.pid == child) {
            let _ = process::signal_number(child, signal);
        }
    }
}

/// Tells everything to end. CONT, so that stopped processes can.
pub(super) fn tell(ranks: &[Rank]) {
    signal_all(ranks, libc::SIGTERM);
    signal_all(ranks, libc::SIGCONT);
}

/// Kills everything that descends from this process as far as it is in reach now; the children that still live.
///
/// A killed child's own children become ours before its end is told, so whoever repeats this after each child's end until nothing is
/// returned has killed every descendant, whatever sessions and groups they made. Children that are no ranks are waited for here.
pub(super) fn kill(ranks: &[Rank]) -> Vec<u32> {
    for rank in ranks {
        let _ = process::signal_group(rank.pid, libc::SIGKILL);
        if let Some(claimant) = &rank.claimant {
            let _ = process::signal(claimant.process.as_fd(), libc::SIGKILL);
        }
    }
    loop {
        if let Some(living) = kill_children(ranks) {
            return living;
        }
    }
}

/// One look at the list of children. `None` if one was found to have ended only after the list was made: what it left us is not in the list.
fn kill_children(ranks: &[Rank]) -> Option<Vec<u32>> {
    let ended = |rank: &Rank| !matches!(process::peek(rank.process.as_fd()), Ok(None));
    let before: Vec<bool> = ranks.iter().map(ended).collect();
    let own = process::group(process::id());
    let mut living = Vec::new();
    let mut complete = true;
    for child in process::children() {
        let dead = match ranks.iter().position(|rank| rank.pid == child) {
            Some(number) if before[number] => continue,
            Some(number) => ended(&ranks[number]),
            None => process::reap(child).is_some(),
        };
        if dead {
            complete = false;
            continue;
        }
        // A child that was not waited for keeps its number and its group's.
        if let Some(group) = process::group(child).filter(|group| Some(*group) != own && *group > 1)
        {
            let _ = process::signal_group(group, libc::SIGKILL);
        }
        let _ = process::signal_number(child, libc::SIGKILL);
        living.push(child);
    }
    complete.then_some(living)
}

/// Waits for adopted children that have ended, so that they do not pile up while the job runs.
pub(super) fn reap_adopted(ranks: &[Rank]) {
    for child in process::children() {
        if !ranks.iter().any(|rank| rank.pid == child) {
            process::reap(child);
        }
    }
}

/// Whether a child that is no rank, but in a rank's group, still lives: a wrapper's child that may be catching TERM.
pub(super) fn stragglers(ranks: &[Rank]) -> bool {
    process::children().into_iter().any(|child| {
        let is_rank = ranks.iter().any(|rank| rank.pid == child);
        !is_rank
            && process::reap(child).is_none()
            && process::group(child).is_some_and(|group| ranks.iter().any(|rank| rank.pid == group))
    })
}
