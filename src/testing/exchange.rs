//! What ranks publish for each other, without messages: a door for the tests of whole jobs.
use crate::job;

/// A rank that is no more than its membership.
pub struct Exchange {
    membership: job::Membership,
    inner: job::Exchange,
}

impl Exchange {
    /// Becomes the rank that the environment names.
    ///
    /// # Errors
    /// A sentence when this process cannot be that rank.
    pub fn join() -> Result<Exchange, String> {
        let membership = job::Membership::join().map_err(|error| error.to_string())?;
        let inner = membership.exchange().ok_or("the exchange is taken")?;
        Ok(Exchange { membership, inner })
    }

    /// Rank, index on this host, host, and the numbers of ranks and hosts.
    pub fn place(&self) -> (usize, usize, u32, usize, usize) {
        let directory = self.membership.segment().directory();
        let (rank, local) = (self.membership.rank(), self.membership.local());
        (
            rank,
            local,
            directory.place(rank).host,
            directory.world(),
            directory.hosts(),
        )
    }

    /// Publishes bytes under a key.
    ///
    /// # Errors
    /// A sentence when the agent cannot be reached.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), String> {
        self.inner
            .put(key, value)
            .map_err(|error| error.to_string())
    }

    /// What a rank has published.
    pub fn get(&mut self, rank: usize, key: &str) -> Option<Vec<u8>> {
        self.inner.get(rank, key).map(<[u8]>::to_vec)
    }

    /// Waits for all ranks.
    ///
    /// # Errors
    /// A sentence when the agent cannot be reached.
    pub fn fence(&mut self) -> Result<(), String> {
        self.inner.fence().map_err(|error| error.to_string())
    }

    /// The job's secret, where there is one.
    ///
    /// # Errors
    /// A sentence when the agent cannot be reached.
    pub fn secret(&self) -> Result<Option<[u8; 32]>, String> {
        self.inner.secret().map_err(|error| error.to_string())
    }

    /// Says goodbye.
    pub fn finalize(self) {
        let control = self.membership.control();
        control.set_state(self.membership.local(), job::RankState::Finalized);
    }
}
