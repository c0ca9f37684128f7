//! Many requests at once.
use super::scope::abort;
use super::{Live, LocalScope, Request, Scope};
use crate::point_to_point::Status;
use core::cell::Cell;
use core::marker::PhantomData;
use core::mem;

/// Requests that are completed together, each known by the number that [`add`](Self::add) gave it; see [`multiple_scope`].
///
/// ```
/// use tercio::traits::*;
/// tercio::testing::ranks(3, |world| {
///     let mine = world.rank();
///     let mut theirs = vec![-1; 3];
///     tercio::request::multiple_scope(6, |scope, requests| {
///         for (rank, place) in (0..3).zip(&mut theirs) {
///             requests.add(world.process_at_rank(rank).immediate_send(scope, &mine));
///             requests.add(world.process_at_rank(rank).immediate_receive_into(scope, place));
///         }
///         let mut done = Vec::new();
///         requests.wait_all(&mut done);
///         assert_eq!(done.len(), 6);
///     });
///     assert_eq!(theirs, [0, 1, 2]);
/// });
/// ```
pub struct RequestCollection<'a, D: ?Sized> {
    requests: Vec<(State, *const D)>,
    incomplete: usize,
    borrow: PhantomData<Cell<&'a D>>,
}

// SAFETY: as for `Request`: what is pointed to is looked at by reference only after the operation is complete.
unsafe impl<D: ?Sized + Sync> Send for RequestCollection<'_, D> {}

enum State {
    Pending(Live),
    /// Complete, but not given out: `test_all` gives all or none.
    Complete(Status),
    Gone,
}

/// A completed request: its number, its status, its buffer.
type Done<'a, D> = (usize, Status, &'a D);

impl<'a, D: ?Sized> RequestCollection<'a, D> {
    fn new(reserve: usize) -> Self {
        RequestCollection {
            requests: Vec::with_capacity(reserve),
            incomplete: 0,
            borrow: PhantomData,
        }
    }

    /// Takes a request in; its number.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(1, |_, requests| {
    ///     assert_eq!(requests.add(universe.world().immediate_barrier()), 0);
    ///     requests.wait_any();
    /// });
    /// ```
    pub fn add<S: Scope<'a>>(&mut self, request: Request<'a, D, S>) -> usize {
        let (live, data, _) = request.dismantle();
        self.requests.push((State::Pending(live), data));
        self.incomplete += 1;
        self.requests.len() - 1
    }

    /// How many requests are not complete.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(1, |_, requests| {
    ///     requests.add(universe.world().immediate_barrier());
    ///     assert_eq!(requests.incomplete(), 1);
    ///     requests.wait_any();
    ///     assert_eq!(requests.incomplete(), 0);
    /// });
    /// ```
    pub fn incomplete(&self) -> usize {
        self.incomplete
    }

    /// Request `number`, which is complete, leaves.
    fn leave(&mut self, number: usize, status: Status) -> Done<'a, D> {
        let (state, data) = &mut self.requests[number];
        *state = State::Gone;
        self.incomplete -= 1;
        // SAFETY: borrowed for 'a, and the operation is complete.
        (number, status, unsafe { &**data })
    }

    /// Notes it if request `number` is complete.
    #[track_caller]
    fn look(&mut self, number: usize) -> Option<Status> {
        let state = &mut self.requests[number].0;
        if let State::Pending(live) = state {
            *state = State::Complete(live.test()?);
        }
        match state {
            State::Complete(status) => Some(*status),
            _ => None,
        }
    }

    #[track_caller]
    fn test(&mut self, number: usize) -> Option<Done<'a, D>> {
        let status = self.look(number)?;
        Some(self.leave(number, status))
    }

    /// Waits until a request is complete; `None` if there is none left.
    ///
    /// Corresponds to `MPI_Waitany`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(1, |_, requests| {
    ///     requests.add(universe.world().immediate_barrier());
    ///     assert_eq!(requests.wait_any().unwrap().0, 0);
    ///     assert!(requests.wait_any().is_none());
    /// });
    /// ```
    #[track_caller]
    pub fn wait_any(&mut self) -> Option<Done<'a, D>> {
        let mut numbers = Vec::with_capacity(self.incomplete);
        let mut pending = Vec::with_capacity(self.incomplete);
        for (number, (state, _)) in self.requests.iter().enumerate() {
            match state {
                // What `test_all` found complete needs no waiting.
                State::Complete(status) => {
                    let status = *status;
                    return Some(self.leave(number, status));
                }
                State::Pending(live) => {
                    numbers.push(number);
                    pending.push(live);
                }
                State::Gone => {}
            }
        }
        if pending.is_empty() {
            return None;
        }
        let (at, status) = Live::wait_any(&pending);
        Some(self.leave(numbers[at], status))
    }

    /// Waits until at least one request is complete, and gives all that are.
    ///
    /// Corresponds to `MPI_Waitsome`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(1, |_, requests| {
    ///     requests.add(universe.world().immediate_barrier());
    ///     let mut done = Vec::new();
    ///     requests.wait_some(&mut done);
    ///     assert_eq!(done.len(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn wait_some(&mut self, result: &mut Vec<Done<'a, D>>) {
        result.clear();
        if let Some(first) = self.wait_any() {
            self.test_some(result);
            result.insert(0, first);
        }
    }

    /// Waits until all are complete, and gives them.
    ///
    /// Corresponds to `MPI_Waitall`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(2, |_, requests| {
    ///     requests.add(universe.world().immediate_barrier());
    ///     requests.add(universe.world().immediate_barrier());
    ///     let mut done = Vec::new();
    ///     requests.wait_all(&mut done);
    ///     assert_eq!(done.len(), 2);
    /// });
    /// ```
    #[track_caller]
    pub fn wait_all(&mut self, result: &mut Vec<Done<'a, D>>) {
        result.clear();
        for number in 0..self.requests.len() {
            let status = match mem::replace(&mut self.requests[number].0, State::Gone) {
                State::Pending(live) => live.wait(),
                State::Complete(status) => status,
                State::Gone => continue,
            };
            result.push(self.leave(number, status));
        }
    }

    /// A request that is complete, if there is one.
    ///
    /// Corresponds to `MPI_Testany`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(1, |_, requests| {
    ///     requests.add(universe.world().immediate_barrier());
    ///     while requests.test_any().is_none() {}
    /// });
    /// ```
    #[track_caller]
    pub fn test_any(&mut self) -> Option<Done<'a, D>> {
        for number in 0..self.requests.len() {
            if let Some(done) = self.test(number) {
                return Some(done);
            }
        }
        None
    }

    /// All requests that are complete.
    ///
    /// Corresponds to `MPI_Testsome`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(1, |_, requests| {
    ///     requests.add(universe.world().immediate_barrier());
    ///     let mut done = Vec::new();
    ///     while done.is_empty() {
    ///         requests.test_some(&mut done);
    ///     }
    /// });
    /// ```
    #[track_caller]
    pub fn test_some(&mut self, result: &mut Vec<Done<'a, D>>) {
        result.clear();
        for number in 0..self.requests.len() {
            if let Some(done) = self.test(number) {
                result.push(done);
            }
        }
    }

    /// Whether all are complete; if so, gives them. If not, none leaves.
    ///
    /// Corresponds to `MPI_Testall`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// tercio::request::multiple_scope(1, |_, requests| {
    ///     requests.add(universe.world().immediate_barrier());
    ///     let mut done = Vec::new();
    ///     while !requests.test_all(&mut done) {}
    ///     assert_eq!(done.len(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn test_all(&mut self, result: &mut Vec<Done<'a, D>>) -> bool {
        result.clear();
        let mut all = true;
        for number in 0..self.requests.len() {
            all &= matches!(self.requests[number].0, State::Gone) || self.look(number).is_some();
        }
        if all {
            self.test_some(result);
        }
        all
    }
}

impl<D: ?Sized> Drop for RequestCollection<'_, D> {
    fn drop(&mut self) {
        let alive = self.requests.iter().find_map(|(state, _)| match state {
            State::Pending(live) => Some(live),
            _ => None,
        });
        match alive {
            None => {}
            Some(live) if std::thread::panicking() => live.end_in_panic(),
            Some(live) => abort(&format!(
                "a request collection closed while {} of its requests were alive (one was started at {}), and their buffers are about to go; \
                 complete every request inside multiple_scope",
                self.incomplete,
                live.started()
            )),
        }
    }
}

/// Runs `f` with a scope and a collection for requests, with room for `reserve` of them. All must be complete when `f` returns, else the
/// process is ended with a sentence.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// let (x, mut y) = (5, 0);
/// tercio::request::multiple_scope(2, |scope, requests| {
///     requests.add(world.this_process().immediate_send(scope, &x));
///     requests.add(world.this_process().immediate_receive_into(scope, &mut y));
///     while requests.incomplete() > 0 {
///         let (_number, _status, data) = requests.wait_any().unwrap();
///         assert_eq!(*data, 5);
///     }
/// });
/// ```
pub fn multiple_scope<'a, F, R, D>(reserve: usize, f: F) -> R
where
    D: 'a + ?Sized,
    F: FnOnce(&LocalScope<'a>, &mut RequestCollection<'a, D>) -> R,
{
    f(&LocalScope::new(), &mut RequestCollection::new(reserve))
}

/// Waits until one of `requests` is complete and takes it out; its place and status. `None` if there is none.
///
/// Corresponds to `MPI_Waitany`.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let mut requests = vec![universe.world().immediate_barrier(), universe.world().immediate_barrier()];
/// while let Some((place, _status)) = tercio::request::wait_any(&mut requests) {
///     println!("the one at {place} is complete");
/// }
/// ```
#[track_caller]
pub fn wait_any<'a, D, S: Scope<'a>>(
    requests: &mut Vec<Request<'a, D, S>>,
) -> Option<(usize, Status)> {
    if requests.is_empty() {
        return None;
    }
    let pending: Vec<&Live> = requests.iter().map(|request| &request.live).collect();
    let (place, status) = Live::wait_any(&pending);
    // Its operation is over, so the parts can go.
    drop(requests.remove(place).dismantle());
    Some((place, status))
}
