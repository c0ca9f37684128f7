//! What collectives need: schedules as requests, and waiting for words of the segment.
use super::*;

impl Engine {
    /// Starts a collective's schedule on the communicator's collective context.
    pub(crate) fn start_schedule(
        &self,
        comm: &Comm,
        start: StartSchedule,
        site: Site,
    ) -> Result<RequestId> {
        let mut state = self.enter(site)?;
        let site_id = state.sites.id(&self.segment, self.rank, site);
        let completed = state.requests.completed;
        let id = state.start_run(Run::new(comm, start, site, site_id))?;
        // What was there already may have ended its first round, and only progress goes on from there.
        self.leave(state, completed);
        self.run_ready()?;
        Ok(id)
    }

    /// Runs what collectives have to compute, outside of the state.
    pub(super) fn run_ready(&self) -> Result<()> {
        loop {
            let Some((id, mut run)) = self.state.get().take_ready() else {
                return Ok(());
            };
            run.compute();
            let mut state = self.state.get();
            let completed = state.requests.completed;
            state.put_back(id, run)?;
            self.leave(state, completed);
        }
    }

    /// Waits until the 64-bit word at `offset` of the segment is at least `value`, making progress on everything meanwhile.
    ///
    /// `member` is the rank of `comm` that will write the word: if it is gone, that is an error. `check` is asked now and then, off the
    /// fast path, whether the wait makes sense at all (mismatched collectives).
    #[inline]
    pub(crate) fn wait_word(
        &self,
        comm: &Comm,
        offset: usize,
        value: u64,
        member: usize,
        check: &dyn Fn() -> Result<()>,
        site: Site,
    ) -> Result<()> {
        let word = self.segment.u64(offset);
        // The word alone, before a wait turns to everything else that may happen to this rank.
        for _ in 0..self.waiter.first_polls() {
            // Acquire: pairs with the Release by which the member announced.
            if word.load(Ordering::Acquire) >= value {
                return Ok(());
            }
        }
        self.wait_word_slow(comm, offset, value, member, check, site)
    }

    #[cold]
    fn wait_word_slow(
        &self,
        comm: &Comm,
        offset: usize,
        value: u64,
        member: usize,
        check: &dyn Fn() -> Result<()>,
        site: Site,
    ) -> Result<()> {
        let world = comm.world_rank(member);
        let watch = state::Watch { offset, value };
        if self.state.is_locked() {
            self.state.get().watches.push(watch);
        }
        let word = self.segment.u64(offset);
        let result = self.block(
            &[],
            site,
            |_| (word.load(Ordering::Acquire) >= value).then_some(Ok(())),
            |state| {
                check()
                    .err()
                    .or_else(|| state.gone_error(world, "a collective"))
            },
        );
        if self.state.is_locked() {
            let mut state = self.state.get();
            if let Some(at) = state.watches.iter().position(|w| *w == watch) {
                state.watches.swap_remove(at);
            }
        }
        result.map_err(|e| e.at(site))
    }

    /// Whether more ranks are awake than the job has cores.
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiter.is_crowded()
    }

    /// After a word that others wait for was written (Release): wakes the members that sleep.
    #[inline]
    pub(crate) fn wake_members(&self, comm: &Comm) {
        let mut state = self.state.get();
        for &member in comm.members().iter() {
            if member != self.rank {
                state.notify(member);
            }
        }
    }

    /// An error if the runtime is finalized.
    #[inline(always)]
    pub(crate) fn is_open(&self, site: Site) -> Result<()> {
        if self
            .state
            .get_unlocked()
            .is_some_and(|state| !state.finalized)
        {
            return Ok(());
        }
        self.enter(site).map(drop)
    }

    /// Notes a collective, by its signature, as the call that this rank is in; gives the call-site id.
    #[inline]
    pub(crate) fn note_collective(&self, signature: Signature, site: Site) -> Result<u32> {
        let mut state = self.enter(site)?;
        let site_id = state.sites.id(&self.segment, self.rank, site);
        note_call(
            &self.last_call,
            signature.kind_number() + COLLECTIVE_CALLS,
            site_id,
        );
        if state.progress_is_due() {
            drop(state);
            self.progress().map_err(|e| e.at(site))?;
        }
        Ok(site_id)
    }
}
