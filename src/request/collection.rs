//! Many requests at once.
use super::live::Owner;
use super::scope::abort;
use super::{Live, LocalScope, Request, Scope};
use crate::engine::RequestId;
use crate::model::Site;
use crate::point_to_point::Status;
use core::cell::Cell;
use core::marker::PhantomData;
use core::mem;
use core::panic::Location;
use std::collections::BTreeMap;

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
    requests: Vec<Entry<D>>,
    /// Of the entries that are more than words, by number.
    aside: BTreeMap<usize, Aside>,
    /// The rank whose messages the others are.
    owner: Option<Owner>,
    incomplete: usize,
    borrow: PhantomData<Cell<&'a D>>,
}

// SAFETY: as for `Request`: what is pointed to is looked at by reference only after the operation is complete.
unsafe impl<D: ?Sized + Sync> Send for RequestCollection<'_, D> {}

/// A request in words, each of which is written once: one that is put together in memory and then copied waits, like a fence, until the message
/// that was just sent has reached the other core (64 sends of 8 bytes, near: half of the sender's time).
struct Entry<D: ?Sized> {
    id: RequestId,
    started: Site,
    data: *const D,
    state: State,
}

impl<D: ?Sized> Entry<D> {
    /// The status of a message that was over when its call returned.
    #[inline(always)]
    fn settled(&self) -> Option<Status> {
        self.id.settled().map(Status::new)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A message under way, of the collection's owner.
    Message,
    Aside,
    Gone,
}

enum Aside {
    /// Under way: a collective, or of another rank.
    Live(Live),
    /// Complete, but not given out: `test_all` gives all or none.
    Complete(Status),
}

/// A completed request: its number, its status, its buffer.
type Done<'a, D> = (usize, Status, &'a D);

impl<'a, D: ?Sized> RequestCollection<'a, D> {
    fn new(reserve: usize) -> Self {
        RequestCollection {
            requests: Vec::with_capacity(reserve),
            aside: BTreeMap::new(),
            owner: None,
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
    #[inline(always)]
    pub fn add<S: Scope<'a>>(&mut self, request: Request<'a, D, S>) -> usize {
        let (live, data, _) = request.dismantle();
        let number = self.requests.len();
        let (id, started, state) = match live.message_of(&mut self.owner) {
            Ok((id, started)) => (id, started, State::Message),
            Err(live) => self.put_aside(number, live),
        };
        self.requests.push(Entry {
            id,
            started,
            data,
            state,
        });
        self.incomplete += 1;
        number
    }

    #[inline(never)]
    fn put_aside(&mut self, number: usize, live: Live) -> (RequestId, Site, State) {
        let started = live.started();
        self.aside.insert(number, Aside::Live(live));
        (RequestId::COMPLETE, started, State::Aside)
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
    #[inline(always)]
    fn leave(&mut self, number: usize, status: Status) -> Done<'a, D> {
        let entry = &mut self.requests[number];
        entry.state = State::Gone;
        self.incomplete -= 1;
        // SAFETY: borrowed for 'a, and the operation is complete.
        (number, status, unsafe { &*entry.data })
    }

    /// Notes it if request `number` is complete.
    #[track_caller]
    fn look(&mut self, number: usize) -> Option<Status> {
        let entry = &mut self.requests[number];
        let status = match (entry.state, &self.owner) {
            (State::Message, owner) => match (entry.settled(), owner) {
                (Some(status), _) => status,
                (None, Some(owner)) => owner.test(entry.id)?,
                (None, None) => return None,
            },
            (State::Aside, _) => match self.aside.get(&number)? {
                Aside::Live(live) => live.test()?,
                Aside::Complete(status) => return Some(*status),
            },
            _ => return None,
        };
        entry.state = State::Aside;
        self.aside.insert(number, Aside::Complete(status));
        Some(status)
    }

    #[track_caller]
    fn test(&mut self, number: usize) -> Option<Done<'a, D>> {
        let status = self.look(number)?;
        self.aside.remove(&number);
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
        let complete = self.aside.iter().find_map(|(&number, aside)| match aside {
            Aside::Complete(status) => Some((number, *status)),
            Aside::Live(_) => None,
        });
        // What `test_all` found complete needs no waiting. What was over when its call returned is one of those that the rank is asked for: it makes
        // progress, and the others have their turn.
        let complete = complete.or_else(|| match self.an_owner() {
            Some(_) => None,
            None => self.first_settled(),
        });
        if let Some((number, status)) = complete {
            self.aside.remove(&number);
            return Some(self.leave(number, status));
        }
        let owner = self.an_owner()?;
        let mut numbers = Vec::with_capacity(self.incomplete);
        let mut ids = Vec::with_capacity(self.incomplete);
        for (number, entry) in self.requests.iter().enumerate() {
            let id = match entry.state {
                State::Message => Some(entry.id),
                State::Aside => self
                    .aside
                    .get(&number)
                    .and_then(Aside::live)
                    .map(|live| live.id_of(owner)),
                State::Gone => None,
            };
            if let Some(id) = id {
                numbers.push(number);
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return None;
        }
        let (at, status) = owner.wait_any(&ids);
        let number = numbers[at];
        self.aside.remove(&number);
        Some(self.leave(number, status))
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
        result.reserve(self.incomplete);
        let site = Location::caller();
        let mut number = 0;
        while number < self.requests.len() {
            let entry = &mut self.requests[number];
            let status = match (mem::replace(&mut entry.state, State::Gone), &self.owner) {
                (State::Message, owner) => match (entry.settled(), owner) {
                    (Some(status), _) => Some(status),
                    (None, Some(owner)) => {
                        let status = owner.wait(entry.id, site);
                        result.push(self.leave(number, status));
                        number = self.take_row(number + 1, result);
                        continue;
                    }
                    (None, None) => None,
                },
                (State::Aside, _) => match self.aside.remove(&number) {
                    Some(Aside::Live(live)) => Some(live.wait()),
                    Some(Aside::Complete(status)) => Some(status),
                    None => None,
                },
                _ => None,
            };
            if let Some(status) = status {
                result.push(self.leave(number, status));
            }
            number += 1;
        }
    }

    /// Takes the messages from request `number` on that are over, up to the first one that is not, or is no message; that one's number. A wait for one message takes those behind it out
    /// of their lane, too, so that they are over mostly.
    #[inline(always)]
    #[track_caller]
    fn take_row(&mut self, mut number: usize, result: &mut Vec<Done<'a, D>>) -> usize {
        let Some(owner) = &self.owner else {
            return number;
        };
        let under_way =
            |entry: &mut Entry<D>| entry.state == State::Message && entry.settled().is_none();
        let row = self.requests[number..].iter_mut();
        let row = row.map_while(|entry| under_way(entry).then_some((entry.id, entry)));
        owner.take_row(row, |entry, status| {
            entry.state = State::Gone;
            self.incomplete -= 1;
            // SAFETY: borrowed for 'a, and the operation is complete.
            result.push((number, status, unsafe { &*entry.data }));
            number += 1;
        });
        number
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
            all &= self.requests[number].state == State::Gone || self.look(number).is_some();
        }
        if all {
            self.test_some(result);
        }
        all
    }
}

impl Aside {
    fn live(&self) -> Option<&Live> {
        match self {
            Aside::Live(live) => Some(live),
            Aside::Complete(_) => None,
        }
    }
}

impl<D: ?Sized> RequestCollection<'_, D> {
    /// The first that was over when its call returned, and has not left.
    fn first_settled(&self) -> Option<(usize, Status)> {
        let mut entries = self.requests.iter().enumerate();
        entries.find_map(|(number, entry)| {
            let status = match entry.state {
                State::Message => entry.settled(),
                State::Aside => self.aside.get(&number)?.live()?.settled(),
                State::Gone => None,
            };
            Some((number, status?))
        })
    }

    /// The rank of a request that is under way.
    fn an_owner(&self) -> Option<&Owner> {
        let mut aside = self.aside.values().filter_map(Aside::live);
        self.owner.as_ref().or_else(|| aside.find_map(Live::owner))
    }

    /// Where a request was started that was not completed.
    fn alive(&self) -> Option<Site> {
        let message = self.requests.iter().find(|e| e.state == State::Message);
        let mut aside = self.aside.values().filter_map(Aside::live);
        let message = message.map(|entry| entry.started);
        message.or_else(|| aside.next().map(Live::started))
    }

    #[cold]
    fn drop_incomplete(&mut self) {
        match self.alive() {
            None => {}
            Some(_) if std::thread::panicking() => {
                let under_way = |e: &Entry<D>| e.state == State::Message && e.settled().is_none();
                let own = self
                    .owner
                    .iter()
                    .filter(|_| self.requests.iter().any(under_way));
                let mut aside = self.aside.values().filter_map(Aside::live);
                let first = own.chain(aside.find_map(Live::owner)).next();
                first.into_iter().for_each(Owner::end_in_panic)
            }
            Some(started) => abort(&format!(
                "a request collection closed while {} of its requests were alive (one was started at {started}), and their buffers are about to go; \
                 complete every request inside multiple_scope",
                self.incomplete,
            )),
        }
    }
}

impl<D: ?Sized> Drop for RequestCollection<'_, D> {
    #[inline]
    fn drop(&mut self) {
        if self.incomplete > 0 {
            self.drop_incomplete();
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
    let (place, status) = match requests.iter().find_map(|r| r.live.owner()) {
        Some(owner) => {
            let ids: Vec<_> = requests.iter().map(|r| r.live.id_of(owner)).collect();
            owner.wait_any(&ids)
        }
        // All of them were over when their calls returned.
        None => (0, requests[0].live.settled()?),
    };
    // Its operation is over, so the parts can go.
    drop(requests.remove(place).dismantle());
    Some((place, status))
}
