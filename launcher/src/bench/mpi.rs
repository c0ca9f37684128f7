//! Blocking messages of the system's MPI, by the crate `mpi`, without anything of the library. There are none in a build without that feature.
use tercio::topology::SimpleCommunicator;

#[cfg(feature = "system-mpi")]
pub use there::Mpi;

#[cfg(feature = "system-mpi")]
mod there {
    use super::SimpleCommunicator;
    use rsmpi::traits::{Communicator, Destination, Source};
    use tercio::traits::Communicator as _;

    /// Rank 0's or rank 1's end.
    pub struct Mpi(rsmpi::topology::SimpleCommunicator);

    impl Mpi {
        /// The MPI through which the messages of ranks 0 and 1 go; nothing on other ranks. All ranks call it.
        pub fn of(world: &SimpleCommunicator) -> Option<Mpi> {
            // A context of its own: none of its messages is the library's. The ranks have their numbers from there.
            let own = rsmpi::topology::SimpleCommunicator::world().duplicate();
            (world.rank() < 2).then_some(Mpi(own))
        }

        fn other(&self) -> rsmpi::topology::Process<'_> {
            self.0.process_at_rank(1 - self.0.rank())
        }

        pub fn put(&self, bytes: &[u8]) {
            self.other().send(bytes);
        }

        pub fn take(&self, bytes: &mut [u8]) {
            self.other().receive_into(bytes);
        }
    }
}

/// What is never made: the command line was refused.
#[cfg(not(feature = "system-mpi"))]
pub enum Mpi {}

#[cfg(not(feature = "system-mpi"))]
impl Mpi {
    pub fn of(_world: &SimpleCommunicator) -> Option<Mpi> {
        None
    }

    pub fn put(&self, _bytes: &[u8]) {
        match *self {}
    }

    pub fn take(&self, _bytes: &mut [u8]) {
        match *self {}
    }
}
