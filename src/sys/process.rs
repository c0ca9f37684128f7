//! Processes: starting, watching by pidfd, signals, groups, what /proc says (fork(2), pidfd_open(2), waitid(2), prctl(2), proc(5)).
use super::fd::check;
use super::last_error;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// From a status as wait(2) gives it.
    fn from_status(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Code(libc::WEXITSTATUS(status))
        }
    }
}

/// What became of a child since it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Stopped(i32),
    Continued,
}

/// Which of the two a fork returned in.
pub(crate) enum Fork {
    Child,
    Parent(u32),
}

pub(crate) fn id() -> u32 {
    std::process::id()
}

pub(crate) fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// How many threads this process has but for those called `name`; `None` if /proc does not tell.
pub(crate) fn threads_but(name: &str) -> Option<usize> {
    let mut threads = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let called = std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        threads += usize::from(called.trim_end() != name);
    }
    Some(threads)
}

/// Forks this process, which must have one thread: with more, a lock that another thread holds would stay locked in the child.
pub(crate) fn fork() -> io::Result<Fork> {
    if threads() != 1 {
        return Err(io::Error::other("the process has more than one thread"));
    }
    // SAFETY: with one thread the child is a whole copy, in which everything that is sound here is sound.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent(child as u32)),
    }
}

/// Starts `command` as the leader of a session of its own, with descriptor `keep` (if there is one) inherited and every signal at its default. It is killed
/// when the calling thread ends, until it calls [`live_without_parent`].
pub(crate) fn spawn_in_session(
    command: &mut std::process::Command,
    keep: Option<i32>,
) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    let parent = id();
    let prepare = move || {
        die_with_parent()?;
        if self::parent() != parent {
            exit_now(125);
        }
        new_session();
        reset_signals();
        match keep {
            Some(keep) => super::fd::set_close_on_exec(keep, false),
            None => Ok(()),
        }
    };
    // SAFETY: between fork and exec `prepare` makes system calls only: no allocation, no lock.
    unsafe { command.pre_exec(prepare) }.spawn()
}

/// Whether a process of this process's group may read from `fd`: it is no terminal, or one of which this is the foreground.
pub(crate) fn in_foreground(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: plain system calls.
    let (owner, own) = unsafe { (libc::tcgetpgrp(fd.as_raw_fd()), libc::getpgrp()) };
    owner < 0 || owner == own
}

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Replaces the program; returns only if that failed.
pub(crate) fn execute(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([core::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both are null-terminated arrays of C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_error()
}

/// Whether this process may execute `file`.
pub(crate) fn may_execute(file: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(name) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: `name` is a C string that outlives the call.
    file.is_file() && unsafe { libc::access(name.as_ptr(), libc::X_OK) == 0 }
}

/// A descriptor for process `pid`, readable once it has ended. It never means another process that gets the same number later.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) } as i32)?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `signal` (0 only asks) to the process behind a descriptor of [`open`].
pub(crate) fn signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: a plain system call; a null information pointer is allowed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            none,
            0,
        )
    } as i32)
    .map(drop)
}

/// Sends `signal` to process `pid`. The caller makes sure that the number still means it: a child that was not waited for, or itself.
pub(crate) fn signal_number(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: a plain system call.
    check(unsafe { libc::kill(pid as libc::pid_t, signal) }).map(drop)
}

/// Sends `signal` to every process of group `group`. The caller makes sure that the number still means it.
pub(crate) fn signal_group(group: u32, signal: i32) -> io::Result<()> {
    assert!(group > 1, "groups 0 and 1 mean something else to kill(2)");
    // SAFETY: a plain system call.
    check(unsafe { libc::kill(-(group as libc::pid_t), signal) }).map(drop)
}

/// The process group of `pid`, if there is such a process.
pub(crate) fn group(pid: u32) -> Option<u32> {
    // SAFETY: a plain system call.
    check(unsafe { libc::getpgid(pid as libc::pid_t) })
        .ok()
        .map(|group| group as u32)
}

fn wait_id(kind: libc::idtype_t, id: libc::id_t, options: i32) -> io::Result<Option<(i32, i32)>> {
    loop {
        // SAFETY: an all-zero `siginfo_t` is a valid value of that plain C struct.
        let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
        // SAFETY: `info` is valid for writes.
        if unsafe { libc::waitid(kind, id, &mut info, options) } == 0 {
            // SAFETY: after a successful waitid these fields are set, or zero if no child had changed.
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            return Ok((pid != 0).then_some((info.si_code, status)));
        }
        let error = last_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// How the child behind a descriptor of [`open`] ended, if it has; it stays a zombie, so that its number and its group's stay its own.
pub(crate) fn peek(child: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    let options = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
    let ended = wait_id(libc::P_PIDFD, child.as_raw_fd() as libc::id_t, options)?;
    Ok(ended.map(|(code, status)| {
        if code == libc::CLD_EXITED {
            Exit::Code(status)
        } else {
            Exit::Signal(status)
        }
    }))
}

/// Whether a child has stopped or gone on since it was last asked.
pub(crate) fn change(child: BorrowedFd<'_>) -> Option<Change> {
    let options = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG;
    let (code, status) =
        wait_id(libc::P_PIDFD, child.as_raw_fd() as libc::id_t, options).ok()??;
    Some(if code == libc::CLD_CONTINUED {
        Change::Continued
    } else {
        Change::Stopped(status)
    })
}

/// Releases child `pid` if it has ended; how it did.
pub(crate) fn reap(pid: u32) -> Option<Exit> {
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    let found = unsafe { libc::waitpid(pid as libc::pid_t, &mut status, libc::WNOHANG) };
    (found == pid as libc::pid_t).then(|| Exit::from_status(status))
}

/// The result of `PIDFD_GET_INFO` (linux/pidfd.h, Linux 6.13; its exit code Linux 6.15).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}
const _: () = assert!(size_of::<PidfdInfo>() == 64);
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: u32 = 3 << 30 | (size_of::<PidfdInfo>() as u32) << 16 | 0xFF << 8 | 11;

/// How a process that is not our child ended, where the kernel tells: new kernels keep it, older ones show it until its parent has waited.
pub(crate) fn exit_of_stranger(process: BorrowedFd<'_>, pid: u32) -> Option<Exit> {
    let from_zombie = || {
        let status = stat_field(pid, 52)?.parse().ok()?;
        (state(pid) == Some('Z')).then(|| Exit::from_status(status))
    };
    let from_kernel = || {
        let mut info = PidfdInfo {
            mask: PIDFD_INFO_EXIT,
            ..PidfdInfo::default()
        };
        // SAFETY: `info` is the request's structure, valid for reads and writes of the size that is part of the request's number.
        let done = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
        (done == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| Exit::from_status(info.exit_code))
    };
    // Between the two looks its parent may have waited, so the first is asked again.
    from_kernel().or_else(from_zombie).or_else(from_kernel)
}

/// The number of the process behind a descriptor of [`open`], also of one that another process made.
pub(crate) fn number(process: BorrowedFd<'_>) -> Option<u32> {
    let text =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    let pid: i64 = text
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))?
        .trim()
        .parse()
        .ok()?;
    u32::try_from(pid).ok().filter(|&pid| pid > 0)
}

/// Makes orphans among this process's descendants its children.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: a plain system call.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Has this process killed when the thread that forked it ends. The caller then checks that its parent is still the one it means.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: a plain system call.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }).map(drop)
}

/// Undoes [`die_with_parent`].
pub(crate) fn live_without_parent() {
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) };
}

/// The name that process lists show for this thread (15 bytes).
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: `name` is a C string that the call copies.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Makes this process the leader of a session and a group of its own, without a terminal. Does nothing if it leads a group already.
pub(crate) fn new_session() {
    // SAFETY: a plain system call.
    unsafe { libc::setsid() };
}

/// Makes `pid` (a child that has not executed a program, or 0 for this process) the leader of a group of its own.
pub(crate) fn new_group(pid: u32) -> io::Result<()> {
    // SAFETY: a plain system call.
    check(unsafe { libc::setpgid(pid as libc::pid_t, 0) }).map(drop)
}

/// Gives every signal its default action and unblocks all, as a program expects that a shell starts.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: setting a default action installs no code; numbers that cannot be set are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialized by sigemptyset before it is used.
    unsafe {
        let mut set: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, core::ptr::null_mut());
    }
}

/// Ignores these signals; [`reset_signals`] undoes it.
pub(crate) fn ignore_signals(signals: &[i32]) {
    for &signal in signals {
        // SAFETY: ignoring a signal installs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The user that this process acts for.
pub(crate) fn user() -> u32 {
    // SAFETY: a call without arguments that cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes a file that grows over the limit an error instead of a signal that kills; [`reset_signals`] undoes it.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal installs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// While this lives every signal is blocked in the thread that made it; threads that it starts meanwhile keep that.
pub(crate) struct SignalsBlocked {
    before: libc::sigset_t,
    /// The mask is the thread's, so the value must stay in it.
    _thread: core::marker::PhantomData<*const ()>,
}

impl SignalsBlocked {
    pub(crate) fn new() -> SignalsBlocked {
        // SAFETY: both sets are plain C data; `all` is initialized by sigfillset and `before` by the call that reads the old mask.
        unsafe {
            let mut all: libc::sigset_t = core::mem::zeroed();
            let mut before: libc::sigset_t = core::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            SignalsBlocked {
                before,
                _thread: core::marker::PhantomData,
            }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that the thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, core::ptr::null_mut()) };
    }
}

/// Sleeps until this thread has handled a signal.
pub(crate) fn pause() {
    // SAFETY: a plain system call.
    unsafe { libc::pause() };
}

/// Whether this program does something of its own on TERM: a handler, or a thread or descriptor for which the caller has it blocked.
pub(crate) fn catches_term() -> bool {
    // SAFETY: both structures are plain C data, written by the calls before they are read.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        let mut mask: libc::sigset_t = core::mem::zeroed();
        libc::sigaction(libc::SIGTERM, core::ptr::null(), &mut action);
        libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), &mut mask);
        let handled = action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN;
        handled || libc::sigismember(&mask, libc::SIGTERM) == 1
    }
}

/// Raises the limit of open descriptors as far as it goes; what it was.
pub(crate) fn raise_descriptor_limit() -> Option<DescriptorLimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writes, then for reads.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return None;
        }
        let raised = libc::rlimit {
            rlim_cur: limit.rlim_max,
            ..limit
        };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raised);
    }
    Some(DescriptorLimit(limit))
}

/// A limit of open descriptors.
#[derive(Clone, Copy)]
pub(crate) struct DescriptorLimit(libc::rlimit);

impl DescriptorLimit {
    /// Makes it this process's limit.
    pub(crate) fn set(self) {
        // SAFETY: the structure is valid for reads.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &self.0) };
    }
}

/// Field `field` of /proc/PID/stat, counted from 1 as proc(5) does; the fields from 3 on.
fn stat_field(pid: u32, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold blanks and brackets; the last bracket ends it.
    let rest = &stat[stat.rfind(')')? + 1..];
    rest.split_ascii_whitespace()
        .nth(field - 3)
        .map(str::to_owned)
}

/// The state letter of process `pid` (R, S, D, T, Z, ...), if there is such a process.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat_field(pid, 3)?.chars().next()
}

/// When process `pid` was started, in clock ticks since boot: together with its number it names a process for good.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// The name of process `pid` as process lists show it.
pub(crate) fn name(pid: u32) -> Option<String> {
    Some(
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim_end()
            .to_owned(),
    )
}

/// The children of this process, zombies too. All were forked by its first thread or adopted.
pub(crate) fn children() -> Vec<u32> {
    let me = id();
    // Missing in kernels without CONFIG_PROC_CHILDREN; then every process is asked for its parent.
    if let Ok(list) = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")) {
        return list
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
    }
    let Ok(all) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    all.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat_field(pid, 4).and_then(|parent| parent.parse().ok()) == Some(me))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::Command;

    fn ended(script: &str) -> Exit {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let process = open(child.id()).unwrap();
        let mut watch = crate::sys::fd::Watch::default();
        watch.add(process.as_fd(), crate::sys::fd::Interest::Read);
        watch.wait(None);
        let seen = peek(process.as_fd()).unwrap().unwrap();
        // Looking leaves it to be looked at again, and shows a stranger the same.
        assert_eq!(peek(process.as_fd()).unwrap(), Some(seen));
        assert_eq!(exit_of_stranger(process.as_fd(), child.id()), Some(seen));
        assert_eq!(number(process.as_fd()), Some(child.id()));
        child.wait().unwrap();
        assert_eq!(number(process.as_fd()), None);
        seen
    }

    #[test]
    fn ends_are_told_as_shells_tell_them() {
        assert_eq!(ended("exit 3"), Exit::Code(3));
        assert_eq!(ended("kill -SEGV $$"), Exit::Signal(libc::SIGSEGV));
    }

    #[test]
    fn proc_tells_of_processes() {
        assert!(start_time(id()).unwrap() > 0);
        assert_eq!(state(u32::MAX / 2), None);
        assert!(name(id()).is_some());
        assert!(matches!(state(id()), Some('R' | 'S')));
        assert!(!catches_term());
    }
}
