//! A job under way, as its caller sees it.
use super::Verdict;

/// Why the caller ends a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The launcher got this signal; the job's code is 128 + its number.
    Signal(i32),
    /// The time limit is over; the job's code is 124.
    TimeLimit,
}

/// A job under way. Dropping it without [`Running::wait`] kills the job.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
}

impl Running {
    /// Waits for the job's end; when this returns nothing of the job is left.
    pub fn wait(self) -> Outcome {
        Outcome {
            code: 125,
            verdict: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Something by which another thread can end or pause the job.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The process id of the job's guard.
    pub fn guard_pid(&self) -> u32 {
        0
    }

    /// The process id of the job's agent.
    pub fn agent_pid(&self) -> u32 {
        0
    }

    /// The process ids of the processes that were started as ranks, by rank.
    pub fn rank_pids(&self) -> &[u32] {
        &[]
    }
}

/// Ends, pauses and resumes a job from any thread; does nothing once the job has ended.
#[derive(Clone, Debug)]
pub struct Handle {}

impl Handle {
    /// Ends the job: TERM to every rank, KILL after the grace. Stopped ranks end too.
    pub fn end(&self, _why: Ending) {}

    /// Stops every rank, and returns when they are stopped.
    pub fn pause(&self) {}

    /// Lets every rank go on.
    pub fn resume(&self) {}
}

/// What came of a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The code that a launcher exits with: 0, that of the first rank that failed on its own, 120 if Tercio ended the job, 124
    /// for the time limit, 125 for a failure of the launcher's own, 128 + n for signal n.
    pub code: i32,
    /// What failed first, if anything did.
    pub verdict: Option<Verdict>,
    /// The ranks' standard output, with [`Output::Capture`](super::Output::Capture).
    pub stdout: Vec<u8>,
    /// The ranks' standard error, with [`Output::Capture`](super::Output::Capture).
    pub stderr: Vec<u8>,
    /// What there was to say while the job ran, a sentence each (a stopped rank, ranks that could not be bound). Unless output is
    /// captured they stand on the caller's standard error already, each as it arose.
    pub notes: Vec<String>,
}
