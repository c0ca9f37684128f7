//! The one instance that a process has, and where calls without a communicator find theirs.
use super::instance::{Home, Instance};
use super::{site_mpi, sockets};
use crate::coll;
use crate::engine::{Carrier, Engine, Settings, ThreadLevel};
use crate::job::Membership;
use crate::job::identity::Birth;
use crate::job::tasks::{Sockets, Task};
use crate::launch::attend;
use crate::model::{Error, Site};
use crate::topology::shared::{Role, Shared};
use core::cell::RefCell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A rank with its two communicators.
#[derive(Clone)]
pub(crate) struct Rank {
    pub(crate) instance: Arc<Instance>,
    pub(crate) world: Arc<Shared>,
    pub(crate) self_comm: Arc<Shared>,
    /// The communicator with those who spawned it, until it is given up.
    parent: Arc<Mutex<Option<Arc<Shared>>>>,
}

impl Rank {
    /// The rank behind `engine`, started together with `world`, numbers in the job; `birth` is theirs if they were spawned.
    pub(crate) fn new(
        engine: Engine,
        home: Home,
        world: Range<usize>,
        birth: Option<&Birth>,
    ) -> Result<Rank, Error> {
        let instance = Instance::new(engine, home);
        let engine = instance.engine();
        let parent = birth.map(|birth| {
            let coll = coll::between(engine, birth, world.clone());
            Shared::new(&instance, coll, Role::Parent)
        });
        let world = coll::world(engine, world, birth)?;
        let world = Shared::new(&instance, world, Role::World);
        let self_comm = Shared::new(
            &instance,
            coll::self_comm(instance.engine())?,
            Role::SelfComm,
        );
        Ok(Rank {
            instance,
            world,
            self_comm,
            parent: Arc::new(Mutex::new(parent)),
        })
    }

    /// The communicator with those who spawned this rank.
    pub(crate) fn parent(&self) -> Option<Arc<Shared>> {
        let parent = self.parent.lock();
        parent.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives that communicator up.
    pub(crate) fn leave_parent(&self) {
        let parent = self.parent.lock();
        drop(parent.unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Takes leave of the others: what was sent is still delivered. Later calls are refused. What was left undone, in words.
    #[track_caller]
    pub(crate) fn finalize(&self, site: Site) -> Vec<String> {
        let instance = &self.instance;
        let left = {
            let _entry = instance.enter();
            instance.check(instance.drain_buffer(site));
            instance.check(coll::check_history(
                instance.engine(),
                self.world.coll(),
                site,
            ));
            instance.check(instance.engine().finalize(site))
        };
        instance.close();
        left
    }
}

/// What this process is.
#[derive(Clone)]
pub(crate) enum State {
    /// Nobody yet.
    Before,
    Rank(Rank),
    /// A rank that has finalized; the thread level that it had.
    After(ThreadLevel),
}

static PROCESS: RwLock<State> = RwLock::new(State::Before);

thread_local! {
    /// The rank that this thread is, inside of `testing::ranks`.
    static THREAD: RefCell<Option<Rank>> = const { RefCell::new(None) };
}

/// Makes this process a rank; `None` if it was one before. With an error the process is none, and may try again.
pub(super) fn join(level: ThreadLevel) -> Option<Result<Rank, Error>> {
    let mut process = PROCESS.write().unwrap_or_else(PoisonError::into_inner);
    if !matches!(*process, State::Before) || THREAD.with_borrow(Option::is_some) {
        return None;
    }
    let join = || {
        let variable = |name: &str| std::env::var(name).ok();
        let task = Task::find(variable);
        let is_task = task.is_some();
        let (membership, mpi) = match site_mpi::Use::read(variable) {
            Some(which) => {
                let (membership, joined) = site_mpi::join(which, level, variable)?;
                (membership, Some(joined))
            }
            None => match task {
                Some(task) => {
                    let wishes = sockets::Wishes::read(variable)?;
                    let needed = Sockets {
                        everywhere: wishes.everywhere,
                        listen: &|| wishes.addresses(),
                    };
                    (task.join(needed, attend::start)?, None)
                }
                None => (Membership::join()?, None),
            },
        };
        let membership = Arc::new(membership);
        membership.note_panics();
        let level = mpi.as_ref().map_or(level, |mpi| mpi.level);
        let settings = Settings::from_variables(level, variable)?;
        let segment = membership.segment().clone();
        let rank = membership.rank();
        let (places, carrier) = match mpi {
            Some(joined) => {
                let (places, carrier) = joined.open(&segment, rank);
                (places, Some(carrier))
            }
            None => {
                let wishes = sockets::Wishes::read(variable)?;
                sockets::take_bells(&segment, variable)?;
                let exchange = || membership.exchange_and_secret();
                let mut opened = sockets::open(&segment, rank, &wishes, &settings, exchange)?;
                if let (Some(sockets), true) = (&mut opened.1, is_task) {
                    sockets.meet()?;
                }
                (
                    opened.0,
                    opened.1.map(|sockets| Carrier::Sockets(Box::new(sockets))),
                )
            }
        };
        let engine = Engine::among(segment, places, settings, carrier)?;
        let home = Home::Process(membership.clone());
        Rank::new(engine, home, membership.world(), membership.birth())
    };
    let rank = join();
    if let Ok(rank) = &rank {
        *process = State::Rank(rank.clone());
    }
    Some(rank)
}

/// The process has finalized: what it was goes with the last communicator.
pub(super) fn retire(level: ThreadLevel) {
    let was = core::mem::replace(
        &mut *PROCESS.write().unwrap_or_else(PoisonError::into_inner),
        State::After(level),
    );
    drop(was);
}

/// What the calling thread is, if it is one of `testing::ranks`, else the process.
pub(crate) fn current() -> State {
    match THREAD.with_borrow(Clone::clone) {
        Some(rank) => State::Rank(rank),
        None => PROCESS
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone(),
    }
}

/// The rank that the caller is, for `what`; or a sentence.
#[track_caller]
pub(crate) fn rank(what: &str) -> Rank {
    match current() {
        State::Rank(rank) => rank,
        State::Before => panic!(
            "{what} was asked for before the library was initialized; call tercio::initialize first"
        ),
        State::After(_) => panic!(
            "{what} was asked for after the library was finalized; keep the Universe until the last use"
        ),
    }
}

/// How many threads of `testing::ranks` there are.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Whether the caller may be a thread that a rank of `testing::ranks` started.
pub(super) fn has_thread_ranks() -> bool {
    THREADS.load(Ordering::Relaxed) > 0
}

/// Whether the calling thread is a rank of `testing::ranks`.
pub(super) fn is_thread_rank() -> bool {
    THREAD.with_borrow(Option::is_some)
}

/// Runs `f` as the thread of `rank`.
pub(crate) fn with_thread_rank<R>(rank: Rank, f: impl FnOnce() -> R) -> R {
    /// Taken back also when `f` panics.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            THREAD.set(None);
            THREADS.fetch_sub(1, Ordering::Relaxed);
        }
    }
    THREAD.set(Some(rank));
    THREADS.fetch_add(1, Ordering::Relaxed);
    let _reset = Reset;
    f()
}
