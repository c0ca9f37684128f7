//! Scopes: how long the buffers of requests stay borrowed.
use crate::environment::process::{State, current};
use crate::job::FailureKind;
use core::cell::Cell;
use core::marker::PhantomData;

/// Counts requests, so that none outlives `'a` unseen.
///
/// # Safety
///
/// The process must not go on beyond `'a` while requests are registered.
pub unsafe trait Scope<'a> {
    /// A request was started.
    ///
    /// ```
    /// use tercio::request::{Scope, StaticScope};
    /// StaticScope.register();
    /// ```
    fn register(&self);

    /// A request was completed.
    ///
    /// # Safety
    ///
    /// It must have been registered before, and its operation must be over.
    ///
    /// ```
    /// use tercio::request::{Scope, StaticScope};
    /// StaticScope.register();
    /// unsafe { StaticScope.unregister() };
    /// ```
    unsafe fn unregister(&self);
}

/// The scope of requests that borrow nothing, or what lives for ever.
///
/// ```
/// use tercio::{request::StaticScope, traits::*};
/// static ANSWER: i32 = 42;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let request = world.this_process().immediate_send(StaticScope, &ANSWER);
/// assert_eq!(world.any_process().receive::<i32>().0, 42);
/// request.wait();
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StaticScope;

// SAFETY: nothing goes on beyond 'static.
unsafe impl Scope<'static> for StaticScope {
    #[inline]
    fn register(&self) {}
    #[inline]
    unsafe fn unregister(&self) {}
}

/// The scope that [`scope`] gives.
#[derive(Debug)]
pub struct LocalScope<'a> {
    requests: Cell<usize>,
    /// Invariant: a scope of 'a is not one of a shorter lifetime.
    lifetime: PhantomData<Cell<&'a ()>>,
}

impl LocalScope<'_> {
    pub(super) fn new() -> Self {
        LocalScope {
            requests: Cell::new(0),
            lifetime: PhantomData,
        }
    }
}

impl Drop for LocalScope<'_> {
    fn drop(&mut self) {
        match self.requests.get() {
            0 => {}
            // The panic that is under way is the cause: it ends the process.
            _ if std::thread::panicking() => {
                if let State::Rank(rank) = current() {
                    rank.instance.end_in_panic();
                }
            }
            alive => abort(&format!(
                "a request scope closed while {alive} of its requests were alive, and their buffers are about to go; complete every request \
                 inside its scope"
            )),
        }
    }
}

/// Ends the process: going on would leave memory to a transfer whose owner is gone.
#[cold]
pub(super) fn abort(text: &str) -> ! {
    eprintln!("tercio: {text}");
    if let State::Rank(rank) = current() {
        let control = rank.instance.engine().segment().control();
        control.record_failure(
            rank.instance.engine().rank(),
            FailureKind::Other,
            128 + libc::SIGABRT,
            text,
        );
    }
    std::process::abort()
}

// SAFETY: dropping the scope with requests registered ends the process, and `scope` drops it before 'a ends.
unsafe impl<'a> Scope<'a> for &LocalScope<'a> {
    #[inline]
    fn register(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    #[inline]
    unsafe fn unregister(&self) {
        match self.requests.get().checked_sub(1) {
            Some(left) => self.requests.set(left),
            None => abort("a request left a scope that it was not in"),
        }
    }
}

/// Runs `f` with a scope for requests. All must be complete when `f` returns, else the process is ended with a sentence.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let x = [1, 2, 3];
/// let sum = tercio::request::scope(|scope| {
///     let request = world.this_process().immediate_send(scope, &x);
///     let (copy, _) = world.any_process().receive_vec::<i32>();
///     request.wait();
///     copy.iter().sum::<i32>()
/// });
/// assert_eq!(sum, 6);
/// ```
pub fn scope<'a, F, R>(f: F) -> R
where
    F: FnOnce(&LocalScope<'a>) -> R,
{
    f(&LocalScope::new())
}
