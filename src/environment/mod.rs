//! Starting and ending: [`Universe`], thread levels, the clock, and what the library says about itself.

mod buffered;
pub(crate) mod instance;
pub(crate) mod process;
pub(crate) mod site_mpi;
pub(crate) mod sockets;

use crate::engine::ThreadLevel;
use crate::job::identity;
use crate::model::Site;
use crate::topology::SimpleCommunicator;
use core::ffi::c_int;
use core::panic::Location;
use core::sync::atomic::Ordering;
use process::{Rank, State};
use std::string::FromUtf8Error;
use std::sync::OnceLock;
use std::time::Instant;

/// The running job as this process sees it. While it lives the library may be used; when it is dropped, the process takes its leave of the
/// others: what it sent is still delivered, and nobody will wait for it in vain without being told.
///
/// There is one in a process, and once it is gone there is none again.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// println!("rank {} of {}", world.rank(), world.size());
/// assert!(tercio::initialize().is_none());
/// ```
pub struct Universe {
    rank: Rank,
    /// Where it was made. That is what failures of its drop name: the drop itself has no place in the program.
    made: Site,
}

impl Universe {
    /// The communicator of all ranks of the job.
    ///
    /// Corresponds to `MPI_COMM_WORLD`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().size(), 1); // started without a launcher
    /// ```
    pub fn world(&self) -> SimpleCommunicator {
        SimpleCommunicator::from_shared(self.rank.world.clone())
    }

    /// How many ranks the job is to have in all, with those that it spawns: what `--universe-size` said, or else a rank for each usable core,
    /// and at least those that the job began with.
    ///
    /// Corresponds to the attribute `MPI_UNIVERSE_SIZE`.
    ///
    /// ```
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.size(), Some(1)); // started without a launcher
    /// ```
    pub fn size(&self) -> Option<usize> {
        let engine = self.rank.instance.engine();
        let told = engine.segment().control().universe();
        // Relaxed: written before the ranks were started.
        Some(match told.load(Ordering::Relaxed) as usize {
            0 => engine.size(),
            told => told,
        })
    }

    /// Gives up the communicator with the processes that spawned this one, if it was spawned; [`parent`](crate::traits::Communicator::parent)
    /// is `None` from then on. Dropping the `Universe` does it too.
    ///
    /// Corresponds to `MPI_Comm_disconnect` of the parent's communicator.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.disconnect_parent();
    /// assert!(universe.world().parent().is_none());
    /// ```
    #[track_caller]
    pub fn disconnect_parent(&mut self) {
        self.rank.leave_parent();
    }

    /// Which of the programs that were started together this is, counted from 0; `None` without a launcher.
    ///
    /// Corresponds to the attribute `MPI_APPNUM`.
    ///
    /// ```
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.appnum(), None);
    /// ```
    pub fn appnum(&self) -> Option<isize> {
        std::env::var(identity::APPNUM).ok()?.parse().ok()
    }

    /// Bytes of the buffer attached for buffered sends.
    ///
    /// ```
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.buffer_size(), 0);
    /// ```
    pub fn buffer_size(&self) -> usize {
        self.rank.instance.buffer_size()
    }

    /// Attaches a buffer of `size` bytes for buffered sends, in place of the one that is there. A message in it takes 512 bytes more than its
    /// packed length. Waits until what is buffered has gone.
    ///
    /// Corresponds to `MPI_Buffer_attach`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1 << 16);
    /// let world = universe.world();
    /// world.this_process().buffered_send(&[1.5, 2.5]);
    /// assert_eq!(world.this_process().receive_vec::<f64>().0, [1.5, 2.5]);
    /// ```
    #[track_caller]
    pub fn set_buffer_size(&mut self, size: usize) {
        self.detach_buffer();
        self.rank.instance.attach_buffer(size);
    }

    /// Waits until what is buffered has gone, and detaches the buffer.
    ///
    /// Corresponds to `MPI_Buffer_detach`.
    ///
    /// ```
    /// let mut universe = tercio::initialize().unwrap();
    /// universe.set_buffer_size(1024);
    /// universe.detach_buffer();
    /// assert_eq!(universe.buffer_size(), 0);
    /// ```
    #[track_caller]
    pub fn detach_buffer(&mut self) {
        let instance = &self.rank.instance;
        let _entry = instance.enter();
        instance.check(instance.drain_buffer(Location::caller()));
        instance.attach_buffer(0);
    }
}

impl Drop for Universe {
    #[track_caller]
    fn drop(&mut self) {
        let instance = &self.rank.instance;
        if instance.is_closed() {
            // The program has called MPI_Finalize.
            return;
        }
        if std::thread::panicking() {
            instance.end_in_panic();
            return;
        }
        leave(&self.rank, self.made);
    }
}

/// Takes leave of the others, and says what was left undone.
#[track_caller]
fn leave(rank: &Rank, site: Site) {
    rank.leave_parent();
    for left in rank.finalize(site) {
        eprintln!("tercio: {left}");
    }
    process::retire(rank.instance.engine().level());
}

/// The process leaves, while its `Universe` is still there.
#[track_caller]
pub(crate) fn finalize(site: Site) {
    let rank = process::rank("MPI_Finalize");
    assert!(
        !process::is_thread_rank(),
        "MPI_Finalize was called by a rank that is a thread; ranks of testing::ranks leave when their function returns"
    );
    leave(&rank, site);
}

/// What a program may do with threads, from least to most.
///
/// ```
/// use tercio::Threading;
/// assert!(Threading::Single < Threading::Multiple);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Threading {
    /// There is one thread.
    Single,
    /// Only the thread that initialized calls the library.
    Funneled,
    /// Any thread calls, but one at a time.
    Serialized,
    /// Any thread calls at any time.
    Multiple,
}

/// The level of a number as C programs know it: 0 to 3, from least to most. Panics for others.
///
/// ```
/// assert_eq!(tercio::Threading::from(3), tercio::Threading::Multiple);
/// ```
impl From<c_int> for Threading {
    #[track_caller]
    fn from(level: c_int) -> Threading {
        match level {
            0 => Threading::Single,
            1 => Threading::Funneled,
            2 => Threading::Serialized,
            3 => Threading::Multiple,
            _ => panic!("{level} is no thread level; levels are 0 (Single) to 3 (Multiple)"),
        }
    }
}

impl From<Threading> for ThreadLevel {
    fn from(threading: Threading) -> ThreadLevel {
        match threading {
            Threading::Single => ThreadLevel::Single,
            Threading::Funneled => ThreadLevel::Funneled,
            Threading::Serialized => ThreadLevel::Serialized,
            Threading::Multiple => ThreadLevel::Multiple,
        }
    }
}

impl From<ThreadLevel> for Threading {
    fn from(level: ThreadLevel) -> Threading {
        match level {
            ThreadLevel::Single => Threading::Single,
            ThreadLevel::Funneled => Threading::Funneled,
            ThreadLevel::Serialized => Threading::Serialized,
            ThreadLevel::Multiple => Threading::Multiple,
        }
    }
}

/// Joins the job, at [`Threading::Single`]. `None` if this process did so before.
///
/// Started by `tercio run` the process becomes the rank that it was started as; started alone it is rank 0 of 1.
///
/// Corresponds to `MPI_Init`.
///
/// Panics with a sentence if the process cannot join: another one is this rank, a launcher of another make or another version started it,
/// or there is no memory.
///
/// ```
/// let universe = tercio::initialize().expect("initialize is called once");
/// assert!(tercio::is_initialized());
/// # drop(universe);
/// ```
#[track_caller]
pub fn initialize() -> Option<Universe> {
    let (universe, _) = initialize_with_threading(Threading::Single)?;
    Some(universe)
}

/// Joins the job, and asks for a thread level. The level that is given stands beside the `Universe`; it is the one asked for.
///
/// Corresponds to `MPI_Init_thread`. Panics as [`initialize`] does.
///
/// ```
/// use tercio::Threading;
/// let (_universe, threading) = tercio::initialize_with_threading(Threading::Multiple).unwrap();
/// assert_eq!(threading, Threading::Multiple);
/// ```
#[track_caller]
pub fn initialize_with_threading(threading: Threading) -> Option<(Universe, Threading)> {
    time();
    match process::join(threading.into())? {
        Ok(rank) => Some((
            Universe {
                rank,
                made: Location::caller(),
            },
            threading,
        )),
        Err(error) => panic!("{error}"),
    }
}

/// Whether the library was initialized, if only to be finalized since. May be called at any time.
///
/// Corresponds to `MPI_Initialized`.
///
/// ```
/// assert!(!tercio::is_initialized());
/// ```
pub fn is_initialized() -> bool {
    !matches!(process::current(), State::Before)
}

/// Whether the `Universe` was dropped. May be called at any time.
///
/// Corresponds to `MPI_Finalized`.
///
/// ```
/// drop(tercio::initialize());
/// assert!(tercio::is_initialized() && tercio::is_finalized());
/// ```
pub fn is_finalized() -> bool {
    matches!(process::current(), State::After(_))
}

/// The thread level that was given at initialization.
///
/// Corresponds to `MPI_Query_thread`. Panics before initialization.
///
/// ```
/// let _universe = tercio::initialize().unwrap();
/// assert_eq!(tercio::environment::threading_support(), tercio::Threading::Single);
/// ```
#[track_caller]
pub fn threading_support() -> Threading {
    match process::current() {
        State::After(level) => level.into(),
        _ => process::rank("the thread level")
            .instance
            .engine()
            .level()
            .into(),
    }
}

/// The version of the MPI standard whose semantics the library follows. May be called at any time.
///
/// Corresponds to `MPI_Get_version`.
///
/// ```
/// assert!(tercio::environment::version() >= (3, 1));
/// ```
pub fn version() -> (i32, i32) {
    (4, 1)
}

/// The library's name and version. May be called at any time.
///
/// Corresponds to `MPI_Get_library_version`.
///
/// ```
/// assert!(tercio::environment::library_version().unwrap().starts_with("Tercio"));
/// ```
pub fn library_version() -> Result<String, FromUtf8Error> {
    Ok(format!("Tercio {}", env!("CARGO_PKG_VERSION")))
}

/// The name of the host that this process runs on.
///
/// Corresponds to `MPI_Get_processor_name`.
///
/// ```
/// assert!(!tercio::environment::processor_name().unwrap().is_empty());
/// ```
pub fn processor_name() -> Result<String, FromUtf8Error> {
    let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_else(|_| b"localhost".to_vec());
    String::from_utf8(name).map(|name| name.trim_end().to_string())
}

/// How a contiguous message of `bytes` bytes from this rank to rank `to` of the world would travel now, and why, in words for people: what the
/// thresholds say and what was measured so far. `tercio bench latency --explain` prints it for each size.
///
/// # Panics
/// Where `to` is no rank of the world, or the library is not initialized.
///
/// ```
/// let universe = tercio::initialize().unwrap();
/// println!("{}", tercio::environment::path_of_message(0, 1 << 20));
/// ```
#[track_caller]
pub fn path_of_message(to: crate::Rank, bytes: usize) -> String {
    let rank = process::rank("path_of_message");
    let comm = rank.world.coll().comm();
    let size = comm.size();
    let Some(member) = usize::try_from(to).ok().filter(|&to| to < size) else {
        panic!("there is no rank {to}: the world has {size} ranks, from 0");
    };
    rank.instance
        .engine()
        .explain(comm.world_rank(member), bytes)
}

/// Seconds since some moment in the past, the same for the life of this process. May be called at any time.
///
/// Corresponds to `MPI_Wtime`.
///
/// ```
/// let start = tercio::time();
/// assert!(tercio::time() >= start);
/// ```
pub fn time() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// The resolution of [`time`] in seconds.
///
/// Corresponds to `MPI_Wtick`.
///
/// ```
/// assert!(tercio::time_resolution() <= 1e-6);
/// ```
pub fn time_resolution() -> f64 {
    1e-9
}

/// Panics where the datatype of the deriving struct `name` must not be made now.
#[track_caller]
pub(crate) fn check_derived(name: &str) {
    if matches!(process::current(), State::Before) && process::has_thread_ranks() {
        return;
    }
    let instance = process::rank(&format!("the datatype of `{name}`")).instance;
    assert!(
        instance.engine().level() == ThreadLevel::Multiple || instance.is_main_thread(),
        "the datatype of `{name}` was first asked for by another thread than the one that initialized the library; call \
         `{name}::equivalent_datatype()` there once, or initialize with Threading::Multiple"
    );
}
