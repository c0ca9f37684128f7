//! A request of the engine that is not complete yet.
use crate::engine::{Limit, RequestId, is_late};
use crate::environment::instance::{Entry, Instance};
use crate::environment::process;
use crate::model::{self, Error, Site};
use crate::point_to_point::Status;
use crate::topology::shared::Shared;
use core::mem::ManuallyDrop;
use core::panic::Location;
use core::time::Duration;
use std::sync::Arc;

/// The rank in whose engine an operation is.
pub(super) struct Owner(ManuallyDrop<Arc<Instance>>);

impl Owner {
    /// Waits until the operation `id` is complete.
    #[inline(always)]
    #[track_caller]
    pub(super) fn wait(&self, id: RequestId, site: Site) -> Status {
        let done = self.done(id, site);
        self.0.check(done)
    }

    #[inline(always)]
    #[track_caller]
    fn done(&self, id: RequestId, site: Site) -> Result<Status, Error> {
        let _entry = self.enter();
        let engine = self.0.engine();
        match engine.take_now(id) {
            Some(status) => Ok(Status::new(status)),
            None => engine.wait(id, site).map(Status::new),
        }
    }

    /// Gives `got` the statuses of these messages, up to the first one that is not over.
    #[inline(always)]
    #[track_caller]
    pub(super) fn take_row<T>(
        &self,
        row: impl Iterator<Item = (RequestId, T)>,
        mut got: impl FnMut(T, Status),
    ) {
        let _entry = self.enter();
        (self.0.engine()).take_row(row, |whose, status| got(whose, Status::new(status)));
    }

    /// Waits until one of these operations is complete; which, and its status. There is at least one.
    #[track_caller]
    pub(super) fn wait_any(&self, ids: &[RequestId]) -> (usize, Status) {
        let _entry = self.enter();
        let (at, status) = self
            .0
            .check(self.0.engine().wait_any(ids, Location::caller()));
        (at, Status::new(status))
    }

    /// Whether the message `id` is complete. Errors end the call.
    #[track_caller]
    pub(super) fn test(&self, id: RequestId) -> Option<Status> {
        let site = Location::caller();
        let tested = self.try_test(id, site);
        let told = |error| self.told("test", site, error);
        self.0.check(tested.map_err(told))
    }

    #[track_caller]
    fn try_test(&self, id: RequestId, site: Site) -> Result<Option<Status>, Error> {
        let _entry = self.enter();
        let tested = self.0.engine().test(id, site, in_vain)?;
        Ok(tested.map(Status::new))
    }

    /// An error of `call`, for it to return; what concerns the whole job ends it instead.
    #[cold]
    #[track_caller]
    fn told(&self, call: &'static str, site: Site, error: Error) -> Error {
        self.0.told(error.at(site).of(call, None))
    }

    /// Into the library. A caller that is not let in panics with operations under way, and must not be able to go on: their memory is lent.
    #[inline]
    #[track_caller]
    fn enter(&self) -> Entry<'_> {
        struct Lent<'o>(&'o Owner);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                // After finalize nothing moves any more.
                if !self.0.0.is_closed() {
                    self.0.end_in_panic();
                }
            }
        }
        let lent = Lent(self);
        let entry = self.0.enter();
        core::mem::forget(lent);
        entry
    }

    /// Requests go away in a panic.
    pub(super) fn end_in_panic(&self) {
        self.0.end_in_panic();
    }
}

impl Drop for Owner {
    #[inline]
    fn drop(&mut self) {
        let kept = match self.0.try_enter() {
            Some(_entry) => self.0.keep(),
            None => false,
        };
        if !kept {
            // SAFETY: nothing uses the field after this.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

/// An operation under way.
pub(crate) struct Live {
    /// `None` if the operation was over when its call returned: then `id` is its status, and nothing is asked of anybody any more.
    owner: Option<Owner>,
    /// Keeps a collective's communicator; for a message the engine has all that it needs.
    communicator: Option<Arc<Shared>>,
    id: RequestId,
    started: Site,
}

impl Live {
    /// Called inside an entry.
    ///
    /// Inlined, as what makes requests of it: a request that is written in words and copied in pairs of them waits, like a fence, until
    /// the send's store has reached the other core.
    #[inline(always)]
    pub(crate) fn new(shared: &Shared, id: RequestId, started: Site) -> Live {
        let reference = || Owner(ManuallyDrop::new(shared.instance().reference()));
        Live {
            owner: id.settled().is_none().then(reference),
            communicator: None,
            id,
            started,
        }
    }

    /// The rank in whose engine the operation is, or the status of one that was over when its call returned.
    #[inline(always)]
    fn under_way(&self) -> Result<&Owner, Status> {
        let status = || Status::new(self.id.settled().unwrap_or(model::Status::EMPTY));
        self.owner.as_ref().ok_or_else(status)
    }

    /// The status of an operation that was over when its call returned.
    pub(super) fn settled(&self) -> Option<Status> {
        self.under_way().err()
    }

    /// A collective. Called inside an entry.
    pub(crate) fn collective(shared: &Arc<Shared>, id: RequestId, started: Site) -> Live {
        let mut live = Live::new(shared, id, started);
        live.communicator = Some(shared.clone());
        live
    }

    /// The operation of this rank with `number`.
    #[track_caller]
    pub(super) fn of_number(number: usize) -> Live {
        let instance = process::rank("a request of a handle").instance;
        let id = RequestId::from_number(number as u64);
        Live {
            owner: (id.settled().is_none()).then(|| Owner(ManuallyDrop::new(instance))),
            communicator: None,
            id,
            started: Location::caller(),
        }
    }

    /// The number, for `of_number`. A collective's communicator is kept for good: nobody knows when the operation is over.
    pub(super) fn into_number(mut self) -> usize {
        core::mem::forget(self.communicator.take());
        self.number()
    }

    pub(crate) fn started(&self) -> Site {
        self.started
    }

    pub(super) fn number(&self) -> usize {
        self.id.number() as usize
    }

    #[inline(always)]
    #[track_caller]
    pub(crate) fn wait(self) -> Status {
        self.wait_at(Location::caller())
    }

    /// As `wait`, for which errors name `site`: in a destructor the caller's place says nothing.
    #[track_caller]
    #[inline(always)]
    pub(super) fn wait_at(self, site: Site) -> Status {
        // A collective's communicator is kept until that is over.
        let (id, _communicator) = (self.id, self.communicator);
        match self.owner {
            Some(owner) => owner.wait(id, site),
            None => Status::new(id.settled().unwrap_or(model::Status::EMPTY)),
        }
    }

    /// Waits; an error is as the engine gives it.
    #[track_caller]
    pub(crate) fn finish(self, site: Site) -> Result<Status, Error> {
        self.done(site)
    }

    /// As `wait`, with errors as values.
    #[track_caller]
    pub(super) fn try_wait(self) -> Result<Status, Error> {
        let site = Location::caller();
        let done = self.done(site);
        done.map_err(|error| self.told("wait", site, error))
    }

    #[inline]
    #[track_caller]
    fn done(&self, site: Site) -> Result<Status, Error> {
        match self.under_way() {
            Ok(owner) => owner.done(self.id, site),
            Err(status) => Ok(status),
        }
    }

    /// Waits for at most `limit`; `None` if the operation goes on.
    #[track_caller]
    pub(crate) fn wait_within(&self, limit: Duration) -> Option<Status> {
        let owner = match self.under_way() {
            Ok(owner) => owner,
            Err(status) => return Some(status),
        };
        let instance = &owner.0;
        let _entry = owner.enter();
        let (engine, limit) = (instance.engine(), Limit::of(limit));
        match engine.wait_within(Some(limit), self.id, Location::caller()) {
            Err(error) if is_late(&error) => None,
            done => Some(Status::new(instance.check(done))),
        }
    }

    /// An error of `call`, for it to return; what concerns the whole job ends it instead.
    #[cold]
    #[track_caller]
    fn told(&self, call: &'static str, site: Site, error: Error) -> Error {
        match (&self.communicator, &self.owner) {
            (Some(shared), _) => shared.told(call, site, error),
            (None, Some(owner)) => owner.told(call, site, error),
            (None, None) => error,
        }
    }

    /// The words of a message of the rank `owner`, which is this one's if it was nobody's; any other operation again.
    #[inline(always)]
    pub(super) fn message_of(self, owner: &mut Option<Owner>) -> Result<(RequestId, Site), Live> {
        let (id, started) = (self.id, self.started);
        if self.communicator.is_some() {
            return Err(self);
        }
        match (owner, &self.owner) {
            // Nothing is in it that would have to be dropped.
            (_, None) => core::mem::forget(self),
            (Some(owner), Some(own)) if !Arc::ptr_eq(&owner.0, &own.0) => return Err(self),
            (Some(_), _) => drop(self.owner),
            (owner @ None, _) => *owner = self.owner,
        }
        Ok((id, started))
    }

    /// Its number among the operations of its rank, which must be `owner`.
    #[track_caller]
    pub(super) fn id_of(&self, owner: &Owner) -> RequestId {
        assert!(
            (self.owner.iter()).all(|own| Arc::ptr_eq(&own.0, &owner.0)),
            "requests of several ranks were waited for at once; each rank waits for its own"
        );
        self.id
    }

    /// The rank in whose engine the operation is, if it is under way.
    pub(super) fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    #[track_caller]
    pub(crate) fn test(&self) -> Option<Status> {
        match self.under_way() {
            Ok(owner) => owner.0.check(self.try_test()),
            Err(status) => Some(status),
        }
    }

    /// As `test`, with errors as values: then too the operation is over.
    #[track_caller]
    pub(super) fn try_test(&self) -> Result<Option<Status>, Error> {
        let owner = match self.under_way() {
            Ok(owner) => owner,
            Err(status) => return Ok(Some(status)),
        };
        let site = Location::caller();
        let tested = owner.try_test(self.id, site);
        tested.map_err(|error| self.told("test", site, error))
    }

    #[track_caller]
    pub(crate) fn cancel(&self) {
        let Some(Owner(instance)) = &self.owner else {
            return;
        };
        let _entry = instance.enter();
        instance.check(instance.engine().cancel(self.id, Location::caller()));
    }

    /// The request's owner goes away in a panic.
    pub(crate) fn end_in_panic(&self) {
        self.owner.iter().for_each(Owner::end_in_panic);
    }

    /// Whether the operation is complete, as far as that can be told without waiting and without a second panic.
    pub(super) fn is_over(&self) -> bool {
        let Some(Owner(instance)) = &self.owner else {
            return true;
        };
        instance.try_enter().is_some_and(|_entry| {
            matches!(
                instance.engine().test(self.id, self.started, in_vain),
                Ok(Some(_))
            )
        })
    }
}

/// Tells of a receive that is tested again and again. It may yet be cancelled, so it is no error.
#[cold]
fn in_vain(error: Error) {
    eprintln!(
        "tercio: {error}: it is tested again and again; cancel it if it is not needed any more"
    );
}
