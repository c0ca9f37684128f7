//! One rank as the face sees it: its engine, who may call, and how its failures end.
use super::buffered::Buffered;
use crate::engine::{Engine, ThreadLevel};
use crate::job::spawn::{Answer, Request};
use crate::job::{FailureKind, Membership};
use crate::model::{Error, ErrorClass};
use core::cell::Cell;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a rank lives in.
pub(crate) enum Home {
    /// A process of its own: what cannot go on ends it.
    Process(Arc<Membership>),
    /// A thread of `testing::ranks`: what cannot go on panics.
    Thread,
}

/// A rank.
pub(crate) struct Instance {
    engine: Engine,
    gate: Gate,
    home: Home,
    pub(super) buffered: Mutex<Buffered>,
    /// References that were taken for requests and wait for the next ones; changed only inside an entry, below `Multiple`.
    spare: AtomicUsize,
    /// Whether references are kept: below `Multiple`, until the end.
    keeps: AtomicBool,
}

impl Instance {
    pub(crate) fn new(engine: Engine, home: Home) -> Arc<Instance> {
        let gate = Gate::new(engine.level());
        // At `Multiple` several threads are inside at once.
        let keeps = AtomicBool::new(engine.level() != ThreadLevel::Multiple);
        Arc::new(Instance {
            engine,
            gate,
            home,
            buffered: Mutex::default(),
            spare: AtomicUsize::new(0),
            keeps,
        })
    }

    /// A reference for a request. Called inside an entry.
    ///
    /// An atomic increment waits until all earlier stores have arrived, and a send's last store is into a line that another core has: that
    /// is a full hand-over a message (60 ns near, 250 far, against 4 for a message of a stream). So references of completed requests are kept.
    #[inline(always)]
    pub(crate) fn reference(self: &Arc<Self>) -> Arc<Instance> {
        match self.spare.load(Ordering::Relaxed) {
            0 => self.clone(),
            spare => {
                self.spare.store(spare - 1, Ordering::Relaxed);
                // SAFETY: `keep` counted a reference that was then forgotten; it is taken over here, once.
                unsafe { Arc::from_raw(Arc::as_ptr(self)) }
            }
        }
    }

    /// Counts a reference for `reference`, if it may be kept: then the caller must forget it. Called inside an entry.
    #[inline(always)]
    pub(crate) fn keep(&self) -> bool {
        let kept = self.keeps.load(Ordering::Relaxed);
        if kept {
            let spare = self.spare.load(Ordering::Relaxed);
            self.spare.store(spare + 1, Ordering::Relaxed);
        }
        kept
    }

    /// Lets go of the references that were kept.
    fn release_spare(&self) {
        for _ in 0..self.spare.swap(0, Ordering::Relaxed) {
            // SAFETY: `keep` counted a reference that was then forgotten, and the caller holds a further one.
            unsafe { Arc::decrement_strong_count(self) };
        }
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Every call of the API but the purely local ones begins with this. While the guard lives, the thread is inside.
    #[inline]
    #[track_caller]
    pub(crate) fn enter(&self) -> Entry<'_> {
        self.check(self.admit())
    }

    /// As [`enter`](Self::enter), for the calls that return errors.
    #[inline]
    pub(crate) fn admit(&self) -> Result<Entry<'_>, Error> {
        self.gate.enter().map_err(|refused| self.refused(refused))
    }

    /// As `enter`, where there is nothing to say to a thread that may not call.
    #[inline]
    pub(crate) fn try_enter(&self) -> Option<Entry<'_>> {
        self.gate.enter().ok()
    }

    /// What the purely local calls begin with: after finalize they are errors too.
    #[inline]
    #[track_caller]
    pub(crate) fn check_alive(&self) {
        if self.gate.is_closed() {
            self.fail(self.refused(Refused::Closed));
        }
    }

    #[cold]
    fn refused(&self, refused: Refused) -> Error {
        let class = if refused == Refused::Closed {
            ErrorClass::State
        } else {
            ErrorClass::Thread
        };
        let level = self.engine.level();
        let text = match refused {
            Refused::Closed => "the library was called after it was finalized (the Universe was dropped); keep the Universe until the last call".into(),
            Refused::OtherThread => format!(
                "the library was called from another thread than the one that initialized it, at Threading::{level:?}; initialize with \
                 Threading::Serialized or Threading::Multiple"
            ),
            Refused::Busy => "two threads are in the library at once at Threading::Serialized; take turns, or initialize with Threading::Multiple".into(),
        };
        Error::new(class, text)
    }

    /// The result, or the end that its error deserves.
    #[inline]
    #[track_caller]
    pub(crate) fn check<T>(&self, result: Result<T, Error>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => self.fail(error),
        }
    }

    /// What rsmpi's names do with an error: wrong arguments panic with the sentence; what concerns the whole job ends it, and so do
    /// elements of another type than was sent.
    #[cold]
    #[track_caller]
    pub(crate) fn fail(&self, error: Error) -> ! {
        let error = self.told(error);
        match error.class() {
            ErrorClass::Type => self.end_with(FailureKind::Mismatch, error),
            _ => panic!("{}", sentence(&error)),
        }
    }

    /// What the `try_` calls do with an error: they return it, unless it concerns the whole job, which ends.
    #[cold]
    #[track_caller]
    pub(crate) fn told(&self, error: Error) -> Error {
        if std::thread::panicking() {
            // A second panic would abort the process, and hide the first; and what is under way may have memory that is about to go.
            self.end_in_panic();
        }
        let kind = match error.class() {
            ErrorClass::Aborted => self.leave(),
            ErrorClass::Gone => FailureKind::Gone,
            ErrorClass::Mismatch => FailureKind::Mismatch,
            ErrorClass::Corrupt => FailureKind::Corrupt,
            ErrorClass::Memory | ErrorClass::Internal => FailureKind::Other,
            _ => return error,
        };
        self.end_with(kind, error)
    }

    /// Ends the job because of an error of this rank.
    #[track_caller]
    fn end_with(&self, kind: FailureKind, error: Error) -> ! {
        let error = error.at(Location::caller());
        let named = error.site().is_some_and(|at| {
            error
                .text()
                .contains(&format!("{}:{}", at.file(), at.line()))
        });
        let text = if named {
            error.text().to_string()
        } else {
            error.to_string()
        };
        self.end(kind, ENDED_BY_US, &text)
    }

    /// Ends the job because of this rank.
    #[track_caller]
    pub(crate) fn end(&self, kind: FailureKind, code: i32, text: &str) -> ! {
        match &self.home {
            Home::Process(membership) => membership.fail(kind, code, text),
            Home::Thread => {
                // What is under way may borrow from frames that are about to go.
                self.gate.close();
                let control = self.engine.segment().control();
                control.record_failure(self.engine.rank(), kind, code, text);
                control.raise_abort();
                panic!("{text}")
            }
        }
    }

    /// The job is ending because of another rank.
    #[track_caller]
    fn leave(&self) -> ! {
        match &self.home {
            Home::Process(membership) => membership.leave(),
            Home::Thread => {
                self.gate.close();
                panic!(
                    "rank {} stops because the job is ending",
                    self.engine.rank()
                )
            }
        }
    }

    /// Something of ours is dropped while the thread panics, and going on would mean to wait or to leave memory to a transfer whose owner
    /// is going away: the process ends as a panic would end it. A rank that is a thread lets the panic go on; its engine is not used again.
    pub(crate) fn end_in_panic(&self) {
        let control = self.engine.segment().control();
        // The page is that of its index on this host.
        let local = match &self.home {
            Home::Process(membership) => membership.local(),
            Home::Thread => self.engine.rank(),
        };
        let text = control
            .last_panic(local)
            .map_or_else(|| "panicked".into(), |report| report.text);
        self.gate.close();
        match &self.home {
            Home::Process(membership) => membership.fail(FailureKind::Panic, PANICKED, &text),
            Home::Thread => {
                control.record_failure(self.engine.rank(), FailureKind::Panic, PANICKED, &text);
                control.raise_abort();
            }
        }
    }

    /// Has further ranks started.
    pub(crate) fn spawn(&self, request: &Request) -> Result<Answer, Error> {
        match &self.home {
            Home::Process(membership) => membership.spawn(request, || self.engine.progress()),
            Home::Thread => Err(Error::new(
                ErrorClass::State,
                "ranks that are threads of a test cannot spawn others; start the program by `tercio run`",
            )),
        }
    }

    /// After this every call is refused.
    pub(crate) fn close(&self) {
        self.gate.close();
        self.keeps.store(false, Ordering::Relaxed);
        self.release_spare();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Whether the calling thread is the one that initialized.
    pub(super) fn is_main_thread(&self) -> bool {
        self.gate.owner == thread_number()
    }
}

/// The exit code of a job that Tercio itself ends.
const ENDED_BY_US: i32 = 120;

/// What a Rust program that panics exits with.
const PANICKED: i32 = 101;

/// The sentence, with the place of the failing call where the panic would tell another.
#[track_caller]
fn sentence(error: &Error) -> String {
    let here = Location::caller();
    match error.site() {
        Some(site) if site != here => error.to_string(),
        _ => error.text().to_string(),
    }
}

/// Who may be in the library, and whether it is still open.
struct Gate {
    /// The number of the thread that may pass without a further look: the owner's below `Serialized`, until the gate is closed; else
    /// [`NOBODY`].
    pass: AtomicU64,
    level: ThreadLevel,
    owner: u64,
    closed: AtomicBool,
    /// The thread that is in the library, at `Serialized`; 0 if none is.
    inside: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Closed,
    OtherThread,
    Busy,
}

impl Gate {
    fn new(level: ThreadLevel) -> Gate {
        let owner = thread_number();
        let pass = match level {
            ThreadLevel::Single | ThreadLevel::Funneled => owner,
            ThreadLevel::Serialized | ThreadLevel::Multiple => NOBODY,
        };
        Gate {
            pass: AtomicU64::new(pass),
            level,
            owner,
            closed: AtomicBool::new(false),
            inside: AtomicU64::new(0),
        }
    }

    #[inline(always)]
    fn enter(&self) -> Result<Entry<'_>, Refused> {
        if NUMBER.get() == self.pass.load(Ordering::Relaxed) {
            return Ok(Entry(None));
        }
        self.look_who_enters()
    }

    #[inline(never)]
    fn look_who_enters(&self) -> Result<Entry<'_>, Refused> {
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        match self.level {
            ThreadLevel::Multiple => Ok(Entry(None)),
            ThreadLevel::Serialized => {
                let me = thread_number();
                // Acquire: pairs with the Release in Entry's drop, so that the last caller's writes are seen.
                match self
                    .inside
                    .compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
                {
                    Ok(_) => Ok(Entry(Some(&self.inside))),
                    // A call from within a call, by a user's operation: one thread takes turns with itself.
                    Err(other) if other == me => Ok(Entry(None)),
                    Err(_) => Err(Refused::Busy),
                }
            }
            ThreadLevel::Single | ThreadLevel::Funneled if self.owner == thread_number() => {
                Ok(Entry(None))
            }
            ThreadLevel::Single | ThreadLevel::Funneled => Err(Refused::OtherThread),
        }
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.pass.store(NOBODY, Ordering::Relaxed);
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// The calling thread is in the library.
pub(crate) struct Entry<'g>(Option<&'g AtomicU64>);

impl Drop for Entry<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(inside) = self.0 {
            // Release: pairs with the Acquire in Gate::enter.
            inside.store(0, Ordering::Release);
        }
    }
}

thread_local! {
    /// The calling thread's number; 0 before it was asked for.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// No thread's number.
const NOBODY: u64 = u64::MAX;

/// A number that no other thread of this process has or had.
#[inline]
pub(crate) fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    match NUMBER.get() {
        0 => {
            NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed));
            NUMBER.get()
        }
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn each_level_admits_whom_it_promises() {
        let refused = |level| {
            let gate = Gate::new(level);
            assert!(gate.enter().is_ok());
            let other = thread::scope(|s| s.spawn(|| gate.enter().err()).join().unwrap());
            let entry = gate.enter().ok();
            let second = thread::scope(|s| s.spawn(|| gate.enter().err()).join().unwrap());
            // A thread may enter again from inside: a user's operation that calls the library.
            assert!(gate.enter().is_ok());
            let still = thread::scope(|s| s.spawn(|| gate.enter().err()).join().unwrap());
            assert_eq!(still, second);
            drop(entry);
            assert!(gate.enter().is_ok());
            gate.close();
            assert_eq!(gate.enter().err(), Some(Refused::Closed));
            (other, second)
        };
        let always = (Some(Refused::OtherThread), Some(Refused::OtherThread));
        assert_eq!(refused(ThreadLevel::Single), always);
        assert_eq!(refused(ThreadLevel::Funneled), always);
        assert_eq!(
            refused(ThreadLevel::Serialized),
            (None, Some(Refused::Busy))
        );
        assert_eq!(refused(ThreadLevel::Multiple), (None, None));
    }
}
