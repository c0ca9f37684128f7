//! What is under way: requests, the scopes that keep their buffers borrowed, and guards.
//!
//! The `immediate_` calls give a [`Request`], which borrows its buffers until it is waited for or tested with success. A request registers
//! in a [`Scope`]; the buffers must outlive it, so they are declared before it:
//!
//! ```
//! use tercio::traits::*;
//! tercio::testing::ranks(2, |world| {
//!     let other = world.process_at_rank(1 - world.rank());
//!     let (mine, mut theirs) = (world.rank(), -1);
//!     tercio::request::scope(|scope| {
//!         let send = other.immediate_send(scope, &mine);
//!         let receive = other.immediate_receive_into(scope, &mut theirs);
//!         // compute something meanwhile
//!         send.wait();
//!         receive.wait();
//!     });
//!     assert_eq!(theirs, 1 - mine);
//! });
//! ```

mod collection;
mod guard;
mod live;
mod scope;

pub use collection::{RequestCollection, multiple_scope, wait_any};
pub use guard::{CancelGuard, WaitGuard};
pub(crate) use live::Live;
pub use scope::{LocalScope, Scope, StaticScope, scope};

use crate::ffi::MPI_Request;
use crate::model::Error;
use crate::point_to_point::Status;
use crate::raw::AsRaw;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::panic::Location;
use core::ptr;
use core::time::Duration;

/// An operation under way that borrows `D` for `'a`.
///
/// It must be completed, by [`wait`](Self::wait), [`test`](Self::test) or a guard: dropping it panics, and a scope that closes while
/// requests are alive ends the process, since their buffers are about to go.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let x = 2.5;
/// tercio::request::scope(|scope| {
///     let request = world.this_process().immediate_send(scope, &x);
///     assert_eq!(world.any_process().receive::<f64>().0, 2.5);
///     request.wait();
/// });
/// ```
#[must_use]
pub struct Request<'a, D: ?Sized, S: Scope<'a> = StaticScope> {
    live: Live,
    /// Not a reference: the library may be writing what it points to.
    data: *const D,
    scope: S,
    /// Invariant, so that a request cannot pretend a shorter borrow.
    borrow: PhantomData<Cell<&'a D>>,
}

// SAFETY: what is pointed to is looked at by reference only after the operation is complete; the request then gives out `&'a D`.
unsafe impl<'a, D: ?Sized + Sync, S: Scope<'a> + Send> Send for Request<'a, D, S> {}

impl<'a, D: ?Sized, S: Scope<'a>> Request<'a, D, S> {
    /// `data` stays borrowed for `'a`, by whatever the operation needs.
    #[inline(always)]
    pub(crate) fn new(live: Live, data: *const D, scope: S) -> Self {
        scope.register();
        Request {
            live,
            data,
            scope,
            borrow: PhantomData,
        }
    }

    /// The parts, without the promise to complete.
    #[inline(always)]
    fn dismantle(self) -> (Live, *const D, S) {
        let this = ManuallyDrop::new(self);
        // SAFETY: each field is moved out once, and `this` is not dropped.
        let (live, scope) = unsafe { (ptr::read(&this.live), ptr::read(&this.scope)) };
        // SAFETY: `new` registered it.
        unsafe { scope.unregister() };
        (live, this.data, scope)
    }

    /// The request of a handle that [`into_raw`](Self::into_raw) gave, in a scope.
    ///
    /// # Safety
    ///
    /// `request` must be under way and must not belong to another `Request`, and its buffers, of which `data` is the one that it gives back, must be
    /// borrowed for `'a`. `data` may be used only when the request is complete.
    ///
    /// ```
    /// use tercio::{request::{Request, StaticScope}, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// let barrier = universe.world().immediate_barrier();
    /// // SAFETY: what the handle stands for goes on as another request.
    /// let again = unsafe {
    ///     let (handle, data, _) = barrier.into_raw();
    ///     Request::from_raw(handle, data, StaticScope)
    /// };
    /// again.wait();
    /// ```
    #[track_caller]
    pub unsafe fn from_raw(request: MPI_Request, data: &'a D, scope: S) -> Self {
        Request::new(Live::of_number(request.0), data, scope)
    }

    /// The handle, the data and the scope, without the promise to complete. The data may be used only when the operation is complete.
    ///
    /// # Safety
    ///
    /// Somebody must complete the operation before `'a` ends: by [`from_raw`](Self::from_raw).
    ///
    /// ```
    /// use tercio::{request::{Request, WaitGuard}, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = [1; 1000];
    /// tercio::request::scope(|scope| {
    ///     let request = world.this_process().immediate_send(scope, &x);
    ///     // SAFETY: it goes on as another request in the same scope.
    ///     let (handle, data, _) = unsafe { request.into_raw() };
    ///     let _guard = WaitGuard::from(unsafe { Request::from_raw(handle, data, scope) });
    ///     assert_eq!(world.any_process().receive_vec::<i32>().0, x);
    /// });
    /// ```
    pub unsafe fn into_raw(self) -> (MPI_Request, &'a D, S) {
        let (live, data, scope) = self.dismantle();
        // SAFETY: borrowed for 'a; that nobody looks at it too early is promised to this function.
        (MPI_Request(live.into_number()), unsafe { &*data }, scope)
    }

    /// Waits until the operation is complete.
    ///
    /// Corresponds to `MPI_Wait`. Panics as the blocking call would: a message too long for its buffer, for one.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// universe.world().immediate_barrier().wait();
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn wait(self) -> Status {
        self.dismantle().0.wait()
    }

    /// [`wait`](Self::wait) with errors as values. The operation is over then too.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let request = world.any_process().immediate_receive_into(scope, &mut x);
    ///     world.this_process().send(&[1, 2]);
    ///     assert_eq!(request.try_wait().unwrap_err().class(), ErrorClass::Truncate);
    /// });
    /// ```
    #[track_caller]
    pub fn try_wait(self) -> Result<Status, Error> {
        self.dismantle().0.try_wait()
    }

    /// Waits until the operation is complete, and drops the status.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// universe.world().immediate_barrier().wait_without_status();
    /// ```
    #[track_caller]
    pub fn wait_without_status(self) {
        self.wait();
    }

    /// Waits until the operation is complete, and gives the buffer back.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let me = universe.world();
    /// let me = me.this_process();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let request = me.immediate_receive_into(scope, &mut x);
    ///     me.send(&7);
    ///     assert_eq!(*request.wait_for_data(), 7);
    /// });
    /// ```
    #[track_caller]
    pub fn wait_for_data(self) -> &'a D {
        let (live, data, _) = self.dismantle();
        live.wait();
        // SAFETY: borrowed for 'a, and the operation is complete.
        unsafe { &*data }
    }

    /// [`wait_for_data`](Self::wait_for_data) with errors as values. The operation is over then too.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let me = universe.world();
    /// let me = me.this_process();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let request = me.immediate_receive_into(scope, &mut x);
    ///     me.send(&7);
    ///     assert_eq!(*request.try_wait_for_data()?, 7);
    ///     Ok::<(), tercio::Error>(())
    /// })
    /// # .unwrap()
    /// ```
    #[track_caller]
    pub fn try_wait_for_data(self) -> Result<&'a D, Error> {
        let (live, data, _) = self.dismantle();
        live.try_wait()?;
        // SAFETY: borrowed for 'a, and the operation is complete.
        Ok(unsafe { &*data })
    }

    /// The status if the operation is complete, else the request again.
    ///
    /// Corresponds to `MPI_Test`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let mut request = universe.world().immediate_barrier();
    /// while let Err(again) = request.test() {
    ///     request = again; // compute something
    /// }
    /// ```
    #[track_caller]
    #[allow(clippy::result_large_err)] // rsmpi's shape
    pub fn test(self) -> Result<Status, Self> {
        self.test_with_data().map(|(status, _)| status)
    }

    /// The status and the buffer if the operation is complete, else the request again.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let mut request = world.any_process().immediate_receive_into(scope, &mut x);
    ///     world.this_process().send(&7);
    ///     loop {
    ///         match request.test_with_data() {
    ///             Ok((_, data)) => break assert_eq!(*data, 7),
    ///             Err(again) => request = again,
    ///         }
    ///     }
    /// });
    /// ```
    #[track_caller]
    #[allow(clippy::result_large_err)] // rsmpi's shape
    pub fn test_with_data(self) -> Result<(Status, &'a D), Self> {
        // Out of its scope for the call: if that panics, the operation is over.
        let (live, data, scope) = self.dismantle();
        match live.test() {
            // SAFETY: borrowed for 'a, and the operation is complete.
            Some(status) => Ok((status, unsafe { &*data })),
            None => Err(Request::new(live, data, scope)),
        }
    }

    /// [`test`](Self::test) with errors as values: `Ok(Err(request))` is the request that goes on. With an error the operation is over.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let request = world.any_process().immediate_receive_into(scope, &mut x);
    ///     let request = request.try_test().unwrap().unwrap_err(); // nobody has sent
    ///     world.this_process().send(&[1, 2]);
    ///     assert_eq!(request.try_test().unwrap_err().class(), ErrorClass::Truncate);
    /// });
    /// ```
    #[track_caller]
    pub fn try_test(self) -> Result<Result<Status, Self>, Error> {
        let (live, data, scope) = self.dismantle();
        let status = live.try_test()?;
        Ok(status.ok_or_else(|| Request::new(live, data, scope)))
    }

    /// Waits until the operation is complete, for at most `limit`; the request again if it is not.
    ///
    /// So sends and collectives can be waited for with a limit: what has begun cannot be taken back, but the request can be waited for again,
    /// or be left to a [`WaitGuard`], while this process does something else.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(2, |world| {
    ///     if world.rank() == 1 {
    ///         world.process_at_rank(0).receive::<i32>(); // late for the barrier
    ///         world.immediate_barrier().wait();
    ///         return;
    ///     }
    ///     let request = world.immediate_barrier();
    ///     let request = request.wait_within(Duration::from_millis(1)).unwrap_err();
    ///     world.process_at_rank(1).send(&1);
    ///     request.wait();
    /// });
    /// ```
    #[track_caller]
    #[allow(clippy::result_large_err)] // the shape of `test`
    pub fn wait_within(self, limit: Duration) -> Result<Status, Self> {
        let (live, data, scope) = self.dismantle();
        match live.wait_within(limit) {
            Some(status) => Ok(status),
            None => Err(Request::new(live, data, scope)),
        }
    }

    /// Asks that a receive be taken back. It must be completed all the same: its status then says whether it was. Sends and collectives go on.
    ///
    /// Corresponds to `MPI_Cancel`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut x = 0;
    /// tercio::request::scope(|scope| {
    ///     let request = world.any_process().immediate_receive_into(scope, &mut x);
    ///     request.cancel();
    ///     assert!(request.wait().is_cancelled());
    /// });
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        self.live.cancel();
    }

    /// The same request in a narrower scope.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let x = 1;
    /// tercio::request::scope(|outer| {
    ///     let request = world.this_process().immediate_send(outer, &x);
    ///     tercio::request::scope(|inner| {
    ///         let request = request.shrink_scope_to(inner);
    ///         world.any_process().receive::<i32>();
    ///         request.wait();
    ///     });
    /// });
    /// ```
    pub fn shrink_scope_to<'b, S2>(self, scope: S2) -> Request<'b, D, S2>
    where
        'a: 'b,
        S2: Scope<'b>,
    {
        let (live, data, _) = self.dismantle();
        Request::new(live, data, scope)
    }
}

// SAFETY: a number that no other operation under way has.
unsafe impl<'a, D: ?Sized, S: Scope<'a>> AsRaw for Request<'a, D, S> {
    type Raw = MPI_Request;
    fn as_raw(&self) -> MPI_Request {
        MPI_Request(self.live.number())
    }
}

impl<'a, D: ?Sized, S: Scope<'a>> fmt::Debug for Request<'a, D, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the data: it may be being written.
        f.debug_struct("Request")
            .field("started", &format_args!("{}", self.live.started()))
            .finish_non_exhaustive()
    }
}

impl<'a, D: ?Sized, S: Scope<'a>> Drop for Request<'a, D, S> {
    #[track_caller]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.live.end_in_panic();
            // Only where ranks are threads: the engine is not used again, so the scope may close.
            // SAFETY: `new` registered it, and nothing of it happens after this.
            unsafe { self.scope.unregister() };
            return;
        }
        let started: &Location<'_> = self.live.started();
        panic!(
            "the request that was started at {started} was dropped alive; wait for it, test it until it is complete, or put it into a WaitGuard"
        );
    }
}
