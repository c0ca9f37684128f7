//! The process that becomes the agent of ranks that another launcher started: forked from one of them, and a child of nobody there.
use super::Attendant;
use crate::job::tasks::Service;
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::process::{self, Fork};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What an agent says when ranks can connect, before where it listens for other agents.
const READY: &str = "ready ";

/// A process that may become this host's agent, made while the program has one thread; it ends if nobody asks it to.
pub(crate) struct Candidate {
    service: OwnedFd,
    told: OwnedFd,
}

/// Starts the agent of this host as a process of its own; returns, when ranks can connect, where it listens for agents of other hosts.
pub(crate) fn start(service: Service) -> io::Result<String> {
    Candidate::new()?.serve(service)
}

impl Candidate {
    /// Makes the process.
    pub(crate) fn new() -> io::Result<Candidate> {
        if process::threads() != 1 {
            return Err(io::Error::other(
                "the program has started threads already; initialize the library before that, or start the program by `tercio run`",
            ));
        }
        let (hear, service) = fd::pipe()?;
        let (told, tell) = fd::pipe()?;
        match process::fork()? {
            Fork::Child => {
                // The agent is a grandchild, so that it is not among the children that the program may wait for.
                if let Ok(Fork::Child) = process::fork() {
                    become_candidate(hear, tell);
                }
                process::exit_now(0)
            }
            Fork::Parent(child) => {
                let process = process::open(child)?;
                let mut watch = Watch::default();
                watch.add(process.as_fd(), Interest::Read);
                watch.wait(None);
                process::reap(child);
                Ok(Candidate { service, told })
            }
        }
    }

    /// Has it become the agent; returns, when ranks can connect, where it listens for agents of other hosts.
    pub(crate) fn serve(self, service: Service) -> io::Result<String> {
        let Candidate {
            service: pipe,
            told,
        } = self;
        File::from(pipe).write_all(service.encode().as_bytes())?;
        let mut text = String::new();
        File::from(told).read_to_string(&mut text)?;
        match (text.strip_prefix(READY), text.as_str()) {
            (Some(listens), _) => Ok(listens.to_owned()),
            (None, "") => Err(io::Error::other("it ended at once")),
            (None, why) => Err(io::Error::other(why.to_owned())),
        }
    }
}

/// In the new process. Nothing of the program runs here any more, and nothing of it is dropped.
fn become_candidate(hear: OwnedFd, tell: OwnedFd) -> ! {
    process::new_session();
    process::set_name(c"tercio-agent");
    process::reset_signals();
    process::ignore_signals(&[libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE]);
    // The launcher waits for the ends of the pipes that the program has; of those only standard error is ours too.
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = fd::duplicate_onto(null.as_raw_fd(), 0);
        let _ = fd::duplicate_onto(null.as_raw_fd(), 1);
    }
    // SAFETY: this process was forked from one thread and runs nothing but this function, which never returns: what owns the closed descriptors
    // is not used again.
    unsafe { fd::close_all(3, &[hear.as_raw_fd(), tell.as_raw_fd()]) };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut text = String::new();
        let heard = File::from(hear).read_to_string(&mut text);
        // Another rank of this host was chosen, or the program has ended.
        let Some(service) = heard.ok().and_then(|_| Service::decode(&text)) else {
            return;
        };
        match Attendant::new(service) {
            Ok((attendant, listens)) => {
                let _ = fd::write(tell.as_raw_fd(), format!("{READY}{listens}").as_bytes());
                drop(tell);
                attendant.run()
            }
            Err(why) => {
                let _ = fd::write(tell.as_raw_fd(), why.as_bytes());
            }
        }
    }));
    process::exit_now(if ran.is_ok() { 0 } else { 125 })
}
