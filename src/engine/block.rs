//! Waiting in the engine: progress on everything, then spin, yield or sleep as the policy says.
use super::state::State;
use super::{Engine, aborted};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass, Site};
use core::time::Duration;

/// Polls between looks at the abort word and at who is gone.
const LOOK_AROUND: u32 = 32;
/// After so many polls without news the stores of this rank get their full fence, and sleepers a second look.
const FENCE_AFTER: u32 = 64;
/// A follower looks for itself now and then, as a net.
const FOLLOW_LIMIT: Duration = Duration::from_millis(100);

impl Engine {
    /// Waits until `done` gives a result. `hopeless` tells why the wait can never end, once nothing more comes in.
    pub(super) fn block<T>(
        &self,
        site: Site,
        mut done: impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: impl Fn(&mut State) -> Option<Error>,
    ) -> Result<T> {
        let result = if self.state.is_locked() {
            self.block_shared(&mut done, &hopeless)
        } else {
            self.poll(&mut done, &hopeless)
        };
        result.map_err(|e| e.at(site))
    }

    /// Several threads may wait: one polls, the others follow.
    fn block_shared<T>(
        &self,
        done: &mut impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: &impl Fn(&mut State) -> Option<Error>,
    ) -> Result<T> {
        loop {
            let epoch = self.turn.epoch();
            if let Some(turn) = self.turn.try_take() {
                let result = self.poll(done, hopeless);
                // The role is free before this thread returns; whoever follows takes it.
                drop(turn);
                return result;
            }
            if let Some(result) = done(&mut self.state.get()) {
                return result;
            }
            if self.segment.control().is_aborted() {
                return Err(aborted());
            }
            if std::thread::panicking() {
                return Err(panicking());
            }
            self.turn.follow(epoch, Some(FOLLOW_LIMIT));
        }
    }

    fn poll<T>(
        &self,
        done: &mut impl FnMut(&mut State) -> Option<Result<T>>,
        hopeless: &impl Fn(&mut State) -> Option<Error>,
    ) -> Result<T> {
        let control = self.segment.control();
        let mut spell = self.waiter.spell();
        let mut polls = 0_u32;
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
                    if state.look_for_gone() {
                        // What a gone rank sent is in the lanes by now: only when nothing more comes in is the wait hopeless.
                        if !state.progress()? && state.ready.is_empty() {
                            if let Some(result) = done(&mut state) {
                                return result;
                            }
                            if let Some(error) = hopeless(&mut state) {
                                return Err(error);
                            }
                        }
                    }
                }
            }
            if any {
                continue;
            }
            let mut outcome = None;
            let mut failed = None;
            spell.idle(|| {
                let mut state = self.state.get();
                state.fence();
                state.before_sleep();
                let completed = state.requests.completed;
                // Before the last look into the lanes: whoever is gone by now has sent all that it ever will.
                state.look_for_gone();
                let progress = state.progress();
                if self.state.is_locked() && state.requests.completed != completed {
                    // Followers wait for a futex of this process; the lock that they want next is about to be free.
                    self.turn.news();
                }
                match progress {
                    Err(error) => failed = Some(error),
                    Ok(any) => {
                        outcome = done(&mut state);
                        if outcome.is_none() {
                            // A wait that makes no sense must be found out now, for nobody may wake this rank again.
                            if !any && state.ready.is_empty() {
                                failed = hopeless(&mut state);
                            }
                            return any
                                || failed.is_some()
                                || !state.ready.is_empty()
                                || state.departures_moved()
                                || control.is_aborted()
                                || state.watch_is_met();
                        }
                    }
                }
                true
            });
            if let Some(result) = outcome {
                return result;
            }
            if let Some(error) = failed {
                return Err(error);
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

/// Destructors that run in a panic may call, but not wait: what they wait for may need what the panic has left undone.
#[cold]
fn panicking() -> Error {
    Error::new(
        ErrorClass::State,
        "a call would have to wait while the thread panics; do not wait in a destructor that may run in a panic",
    )
}
