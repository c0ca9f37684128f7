//! Ranks that are threads of one process, for tests and examples; and, behind [`#[tercio::test]`](macro@crate::test), tests whose ranks are
//! processes.
#[doc(hidden)]
pub mod exchange;
#[cfg(feature = "derive")]
pub(crate) mod harness;

use crate::engine::{Carrier, Engine, Settings};
use crate::environment::Threading;
use crate::environment::instance::Home;
use crate::environment::process::{Rank, with_thread_rank};
use crate::environment::sockets::{self, Wishes};
use crate::job::{Exchange, RankState, Segment};
use crate::sys::net;
use crate::topology::SimpleCommunicator;
use core::panic::Location;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

/// What rouses ranks that sleep where their sockets are watched.
fn give_bells(segment: &Segment) {
    let bells: Result<Vec<_>, _> = (0..segment.ranks()).map(|_| net::event()).collect();
    match bells {
        Ok(bells) => segment.set_bells(bells),
        Err(error) => {
            panic!("cannot make event descriptors for the ranks ({error}); raise `ulimit -n`")
        }
    }
}

/// Runs `f` on `count` ranks, each a thread of this process with an engine of its own, over memory that they share. `f` gets the world's
/// communicator. Returns when all have returned; if one panics, the others are ended and the first panic goes on here.
///
/// ```
/// use tercio::traits::*;
/// tercio::testing::ranks(4, |world| {
///     let mut x = world.rank();
///     world.process_at_rank(3).broadcast_into(&mut x);
///     assert_eq!(x, 3);
/// });
/// ```
#[track_caller]
pub fn ranks<F>(count: usize, f: F)
where
    F: Fn(SimpleCommunicator) + Sync,
{
    ranks_with_threading(count, Threading::Single, f);
}

/// [`ranks`], whose threads may start others that call the library as `threading` allows.
///
/// ```
/// use tercio::{Threading, traits::*};
/// tercio::testing::ranks_with_threading(2, Threading::Multiple, |world| {
///     let other = world.process_at_rank(1 - world.rank());
///     std::thread::scope(|threads| {
///         threads.spawn(|| other.send_with_tag(&1, 1));
///         threads.spawn(|| assert_eq!(other.receive_with_tag::<i32>(1).0, 1));
///     });
/// });
/// ```
#[track_caller]
pub fn ranks_with_threading<F>(count: usize, threading: Threading, f: F)
where
    F: Fn(SimpleCommunicator) + Sync,
{
    let site = Location::caller();
    let segment = match Segment::private(count) {
        Ok(segment) => Arc::new(segment),
        Err(error) => panic!("{error}"),
    };
    let wishes = match Wishes::read(|name| std::env::var(name).ok()) {
        Ok(wishes) => wishes,
        Err(error) => panic!("{error}"),
    };
    if wishes.everywhere {
        give_bells(&segment);
    }
    let engine = |segment: &Arc<Segment>, number: usize, settings: Settings| {
        // Threads of one process keep no secret from each other.
        let exchange = || Ok((Exchange::new(segment.clone(), number, None), Some([0; 32])));
        let (places, sockets) = sockets::open(segment, number, &wishes, &settings, exchange)?;
        let carrier = sockets.map(|sockets| Carrier::Sockets(Box::new(sockets)));
        Engine::among(segment.clone(), places, settings, carrier)
    };
    let run = |number: usize| {
        let control = segment.control();
        control.set_state(number, RankState::Active);
        let engine = engine(&segment, number, Settings::new(threading.into()));
        let rank = match engine.and_then(|engine| Rank::new(engine, Home::Thread, 0..count, None)) {
            Ok(rank) => rank,
            Err(error) => panic!("{error}"),
        };
        let world = SimpleCommunicator::from_shared(rank.world.clone());
        let (me, instance) = (rank.clone(), rank.instance.clone());
        let ended = catch_unwind(AssertUnwindSafe(|| {
            with_thread_rank(rank, || f(world));
            me.finalize(site);
        }));
        if ended.is_err() {
            instance.end_in_panic();
        }
        let followed = ended.is_err() && control.first_failed() != Some(number);
        ended.map_err(|panic| (followed, panic))
    };
    let mut panics = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let run = &run;
                let named = thread::Builder::new().name(format!("rank {number}"));
                match named.spawn_scoped(scope, move || run(number)) {
                    Ok(thread) => thread,
                    Err(error) => panic!("cannot start a thread for rank {number} ({error}); raise the limit of processes (`ulimit -u`)"),
                }
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(panic)) => panics.push(panic),
                Err(panic) => panics.push((false, panic)),
            }
        }
    });
    // The one that failed on its own, rather than those that followed.
    panics.sort_by_key(|(followed, _)| *followed);
    if let Some((_, panic)) = panics.into_iter().next() {
        resume_unwind(panic);
    }
}
