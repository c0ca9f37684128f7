//! Guards: requests that complete themselves when they are dropped.
use super::{Request, Scope, StaticScope};
use crate::ffi::MPI_Request;
use crate::raw::AsRaw;

/// Waits for its request when it is dropped. If that happens in a panic and the operation is not complete, the process ends with code
/// 101: waiting might take for ever, and going on would leave the buffer to the operation.
///
/// ```
/// use tercio::{request::WaitGuard, traits::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let x = 4;
/// tercio::request::scope(|scope| {
///     let _guard = WaitGuard::from(world.this_process().immediate_send(scope, &x));
///     assert_eq!(world.any_process().receive::<i32>().0, 4);
/// });
/// ```
#[derive(Debug)]
pub struct WaitGuard<'a, D: ?Sized, S: Scope<'a> = StaticScope>(Option<Request<'a, D, S>>);

impl<'a, D: ?Sized, S: Scope<'a>> Drop for WaitGuard<'a, D, S> {
    #[track_caller]
    fn drop(&mut self) {
        match self.0.take() {
            Some(request) if std::thread::panicking() => {
                let (live, ..) = request.dismantle();
                if !live.is_over() {
                    live.end_in_panic();
                }
            }
            Some(request) => {
                let (live, ..) = request.dismantle();
                let started = live.started();
                live.wait_at(started);
            }
            None => {}
        }
    }
}

// SAFETY: that of the request, which is there until the guard is dropped.
unsafe impl<'a, D: ?Sized, S: Scope<'a>> AsRaw for WaitGuard<'a, D, S> {
    type Raw = MPI_Request;
    fn as_raw(&self) -> MPI_Request {
        self.0.as_ref().map_or(MPI_Request(0), AsRaw::as_raw)
    }
}

impl<'a, D: ?Sized, S: Scope<'a>> From<Request<'a, D, S>> for WaitGuard<'a, D, S> {
    fn from(request: Request<'a, D, S>) -> Self {
        WaitGuard(Some(request))
    }
}

impl<'a, D: ?Sized, S: Scope<'a>> From<WaitGuard<'a, D, S>> for Request<'a, D, S> {
    fn from(mut guard: WaitGuard<'a, D, S>) -> Self {
        match guard.0.take() {
            Some(request) => request,
            None => unreachable!("a guard has its request until it is dropped or taken apart"),
        }
    }
}

/// Cancels its request when it is dropped, and waits for it.
///
/// ```
/// use tercio::{request::CancelGuard, traits::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let mut x = 0;
/// tercio::request::scope(|scope| {
///     let _guard = CancelGuard::from(world.any_process().immediate_receive_into(scope, &mut x));
///     // nobody sends
/// });
/// ```
#[derive(Debug)]
pub struct CancelGuard<'a, D: ?Sized, S: Scope<'a> = StaticScope>(Option<WaitGuard<'a, D, S>>);

impl<'a, D: ?Sized, S: Scope<'a>> Drop for CancelGuard<'a, D, S> {
    #[track_caller]
    fn drop(&mut self) {
        if let Some(WaitGuard(Some(request))) = &self.0 {
            if !std::thread::panicking() {
                request.cancel();
            }
        }
        // The inner guard waits.
    }
}

impl<'a, D: ?Sized, S: Scope<'a>> From<CancelGuard<'a, D, S>> for WaitGuard<'a, D, S> {
    fn from(mut guard: CancelGuard<'a, D, S>) -> Self {
        guard.0.take().unwrap_or(WaitGuard(None))
    }
}

impl<'a, D: ?Sized, S: Scope<'a>> From<WaitGuard<'a, D, S>> for CancelGuard<'a, D, S> {
    fn from(guard: WaitGuard<'a, D, S>) -> Self {
        CancelGuard(Some(guard))
    }
}

impl<'a, D: ?Sized, S: Scope<'a>> From<Request<'a, D, S>> for CancelGuard<'a, D, S> {
    fn from(request: Request<'a, D, S>) -> Self {
        CancelGuard(Some(WaitGuard::from(request)))
    }
}
