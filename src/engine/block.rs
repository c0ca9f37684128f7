//! Waiting in the engine: progress on everything, then spin, yield or sleep as the policy says.
use super::alone::Counted;
use super::state::State;
use super::{Engine, Limit, RequestId, aborted};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass, Site};
use core::time::Duration;

/// Polls between looks at the abort word and at who is gone.
const LOOK_AROUND: u32 = 32;
/// The poll of so many at which it is asked whether the wait is for somebody far away: what is there already, or close, comes before.
const LOOK_FAR: u32 = 2;
/// After so many polls without news the stores of this rank get their full fence, and sleepers a second look.
const FENCE_AFTER: u32 = 64;
/// A follower looks for itself now and then, as a net.
const FOLLOW_LIMIT: Duration = Duration::from_millis(100);

impl Engine {
    /// Waits until `done` gives a result, for any of the requests `awaited` or for something else. `hopeless` tells why the wait can never end, once nothing
    /// more comes in.
    pub(super) fn block<T>(
        &self,
        awaited: &[RequestId],
        site: Site,
        done: impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: impl Fn(&mut State) -> Option<Error>,
    ) -> Result<T> {
        self.block_within(None, awaited, site, done, hopeless)
    }

    /// As [`Engine::block`], for at most `limit`: then an error of class `TimeLimit`, and what was waited for goes on.
    pub(super) fn block_within<T>(
        &self,
        limit: Option<Limit>,
        awaited: &[RequestId],
        site: Site,
        mut done: impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: impl Fn(&mut State) -> Option<Error>,
    ) -> Result<T> {
        let mut done = |state: &mut State| match done(state) {
            Some(result) => Some(result),
            None => limit.as_ref().and_then(Limit::ran_out).map(Err),
        };
        let result = if self.state.is_locked() {
            let mut counted = Counted::default();
            let result = self.block_shared(limit, &mut done, &hopeless, &mut counted);
            self.state.get().waits_no_longer(&counted);
            result
        } else {
            self.poll(
                limit,
                awaited,
                &mut done,
                &hopeless,
                &mut Counted::default(),
            )
        };
        result.map_err(|e| e.at(site))
    }

    /// Several threads may wait: one polls, the others follow.
    fn block_shared<T>(
        &self,
        limit: Option<Limit>,
        done: &mut impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: &impl Fn(&mut State) -> Option<Error>,
        counted: &mut Counted,
    ) -> Result<T> {
        // The thread that polls looks only after its own wait's sense.
        let mut look_for_oneself = false;
        loop {
            let epoch = self.turn.epoch();
            if let Some(turn) = self.turn.try_take() {
                // What the other threads wait for may be near: so this wait is like any other.
                let result = self.poll(limit, &[], done, hopeless, counted);
                // The role is free before this thread returns; whoever follows takes it.
                drop(turn);
                return result;
            }
            let mut state = self.state.get();
            if let Some(result) = done(&mut state) {
                return result;
            }
            if look_for_oneself || state.any_gone {
                let completed = state.requests.completed;
                let look = self.look_around(&mut state, limit, done, hopeless, counted);
                self.leave(state, completed);
                if let Look::Over(result) = look {
                    return result;
                }
                self.run_ready()?;
            } else {
                drop(state);
            }
            if self.segment.control().is_aborted() {
                return Err(aborted());
            }
            if std::thread::panicking() {
                return Err(panicking());
            }
            let most = limit.map_or(FOLLOW_LIMIT, |limit| limit.at_most(FOLLOW_LIMIT));
            self.turn.follow(epoch, Some(most));
            look_for_oneself = self.turn.epoch() == epoch;
        }
    }

    /// A look at everything, in the one right order: who is gone, then what has come in (all that they sent is there by then), then whether
    /// the wait is over, or can never be.
    fn look_around<T>(
        &self,
        state: &mut State,
        limit: Option<Limit>,
        done: &mut impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: &impl Fn(&mut State) -> Option<Error>,
        counted: &mut Counted,
    ) -> Look<T> {
        let departed = state.departures_moved();
        state.look_for_gone();
        let completed = state.requests.completed;
        if let Err(error) = state.settle_net() {
            return Look::Over(Err(error));
        }
        let progress = state.progress();
        if self.state.is_locked() && (departed || state.requests.completed != completed) {
            // Followers wait for a futex of this process; the lock that they want next is about to be free.
            self.turn.news();
        }
        let any = match progress {
            Ok(any) => any,
            Err(error) => return Look::Over(Err(error)),
        };
        if let Some(result) = done(state) {
            return Look::Over(result);
        }
        if any || !state.ready.is_empty() {
            return Look::News;
        }
        // A wait that makes no sense must be found out now, for nobody may wake this rank again.
        let error = hopeless(state).or_else(|| match limit {
            None => state.hopeless_of_all_threads(counted, hopeless),
            Some(_) => None,
        });
        match error {
            Some(error) => Look::Over(Err(error)),
            None if std::thread::panicking() => Look::Over(Err(panicking())),
            None => Look::Nothing,
        }
    }

    fn poll<T>(
        &self,
        limit: Option<Limit>,
        awaited: &[RequestId],
        done: &mut impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: &impl Fn(&mut State) -> Option<Error>,
        counted: &mut Counted,
    ) -> Result<T> {
        let control = self.segment.control();
        let mut spell = self.waiter.spell(limit.and_then(|limit| limit.until()));
        let (mut polls, mut idle) = (0_u32, 0_u32);
        loop {
            let any = self.step()?;
            {
                let mut state = self.state.get();
                if let Some(result) = done(&mut state) {
                    return result;
                }
                polls += 1;
                if polls == FENCE_AFTER {
                    state.fence();
                }
                if polls % LOOK_AROUND == 0 {
                    if control.is_aborted() {
                        return Err(aborted());
                    }
                    if std::thread::panicking() {
                        return Err(panicking());
                    }
                    if state.any_gone || state.departures_moved() {
                        if let Look::Over(result) =
                            self.look_around(&mut state, limit, done, hopeless, counted)
                        {
                            return result;
                        }
                    }
                }
            }
            if any {
                // What is awaited may be another one now, of a peer that is near.
                idle = 0;
                spell.found_something();
                continue;
            }
            idle += 1;
            if idle % LOOK_AROUND == LOOK_FAR {
                spell.is_long(self.state.get().are_far(awaited));
            }
            let mut outcome = None;
            spell.idle(|| {
                let mut state = self.state.get();
                state.before_sleep();
                match self.look_around(&mut state, limit, done, hopeless, counted) {
                    Look::Over(result) => outcome = Some(result),
                    Look::News => {}
                    Look::Nothing => {
                        return state.departures_moved()
                            || control.is_aborted()
                            || state.watch_is_met()
                            || state.mpi.as_ref().is_some_and(|mpi| mpi.is_moving());
                    }
                }
                true
            });
            if let Some(result) = outcome {
                return result;
            }
            if control.is_aborted() {
                return Err(aborted());
            }
        }
    }

    /// One round of progress; tells whether anything happened.
    fn step(&self) -> Result<bool> {
        let mut state = self.state.get();
        let completed = state.requests.completed;
        let any = state.progress()?;
        let ready = !state.ready.is_empty();
        let news = self.state.is_locked()
            && (state.requests.completed != completed || state.watch_is_met());
        drop(state);
        if news {
            self.turn.news();
        }
        if ready {
            self.run_ready()?;
        }
        Ok(any || ready)
    }
}

/// What a look at everything found.
enum Look<T> {
    /// The wait is over.
    Over(Result<T>),
    /// Something came in.
    News,
    Nothing,
}

/// Destructors that run in a panic may call, but not wait: what they wait for may need what the panic has left undone.
#[cold]
fn panicking() -> Error {
    Error::new(
        ErrorClass::State,
        "a call would have to wait while the thread panics; do not wait in a destructor that may run in a panic",
    )
}
