//! The way that a message of some size takes to a rank, in words: what the thresholds say, and what was measured so far.
use super::Engine;
use super::protocol::{CREDIT, EAGER_MAX, INLINE, LONG_MAX};
use super::sending::{LONG_FROM, LONG_FROM_OF_MANY, MIDDLE};
use super::state::{Spans, State};
use crate::transport::mpi;
use crate::transport::shm::single_copy::{PairState, SingleCopyMode};
use crate::transport::shm::stream::chunk;
use crate::transport::shm::way::Distance;
use crate::transport::tcp::frame;

impl Engine {
    /// How a contiguous message of `bytes` bytes to the rank `to` of the job would travel now, and why.
    pub(crate) fn explain(&self, to: usize, bytes: usize) -> String {
        self.state.get().explain(to, bytes)
    }
}

impl State {
    fn explain(&self, to: usize, bytes: usize) -> String {
        if to == self.rank {
            return "to this rank itself: copied once, from buffer to buffer or into memory of its own".into();
        }
        if self.places.is_remote(to) {
            return self.explain_remote(to, bytes);
        }
        let far = self.links[to].near.distance() == Some(Distance::Far);
        if bytes <= INLINE && !(far && bytes >= MIDDLE) {
            let many = match bytes >= LONG_FROM_OF_MANY && !matches!(self.spans, Spans::Without) {
                true => {
                    "; by nonblocking sends through this rank's long ring while the receiver's core is near"
                }
                false => "",
            };
            return format!(
                "in a slot of the lane, with its header: it has at most {INLINE} bytes{many}"
            );
        }
        if self.is_eager(to, bytes) {
            let (ring, most, why) = match self.links[to].near.distance() {
                Some(Distance::Near)
                    if bytes >= LONG_FROM && !matches!(self.spans, Spans::Without) =>
                {
                    (
                        "this rank's long ring",
                        LONG_MAX,
                        format!("; the receiver's core is near, and it has at least {LONG_FROM}"),
                    )
                }
                Some(Distance::Far) if bytes >= MIDDLE => (
                    match self.on_mesh {
                        true => "the lane's byte ring, through the cache",
                        false => "the lane's byte ring, around the cache",
                    },
                    EAGER_MAX,
                    format!("; the receiver's core is far, and it has at least {MIDDLE}"),
                ),
                _ => ("the lane's byte ring", EAGER_MAX, String::new()),
            };
            return format!(
                "at once through {ring}: it has at most {most} bytes, and the receiver has room for {CREDIT} unexpected bytes of each sender{why}"
            );
        }
        self.explain_large(to, bytes)
    }

    /// Through what moves messages to ranks that are not reached through memory.
    fn explain_remote(&self, to: usize, bytes: usize) -> String {
        let (through, most) = match self.mpi {
            Some(_) => ("through the site's MPI", mpi::EAGER),
            None => ("through a socket", frame::EAGER_MAX),
        };
        if bytes > most && self.is_known_as_far(to) {
            return format!(
                "{through}, ahead of its receive as far as the receiver has room: it has more than {most} bytes, and the path is long"
            );
        }
        match bytes <= most {
            true => format!(
                "{through}, at once with its envelope: it has at most {most} bytes, and the receiver has room for unexpected ones"
            ),
            false => format!(
                "{through}, straight into the receiver's buffer once that is there: it has more than {most} bytes"
            ),
        }
    }

    fn explain_large(&self, to: usize, bytes: usize) -> String {
        if self.single_copy.mode() == SingleCopyMode::Force {
            return "copied by the receiver straight out of this rank's memory: TERCIO_SINGLE_COPY=force".into();
        }
        if self.links[to].wish.is_wanted() {
            return "copied by the receiver straight out of this rank's memory: it measured that as faster".into();
        }
        let single = match (self.single_copy.mode(), self.single_copy.state(to)) {
            (SingleCopyMode::Off, _) => "TERCIO_SINGLE_COPY=off",
            (_, PairState::Refused) => "the system refuses single copies",
            (_, PairState::Slower) => "single copies were measured as slower",
            (_, _) => "single copies have not won a comparison",
        };
        let long = self.streams[0].tx.as_ref().is_some_and(|tx| tx.is_long());
        let (ring, why) = match (self.links[to].ways.distance(), long) {
            _ if self.on_mesh => (
                "through the cache",
                "all cores of this processor sit around one cache",
            ),
            (Distance::None, _) => (
                "through the cache",
                "the receiver shares this core's caches, or reads as fast",
            ),
            (Distance::Near, true) => (
                "through the cache, in the long ring",
                "the receiver's core is near",
            ),
            (Distance::Near, false) => (
                "around the cache",
                "the receiver's core is near, but the ring is short: more ranks are awake than cores, or no memory",
            ),
            (Distance::Far, _) => (
                "around the cache",
                "the receiver's core is far, or not compared yet",
            ),
        };
        format!(
            "through a staging ring in chunks of {} bytes, {ring}: {why}; {single}; out of a SharedBuffer: copied once, by the receiver, where it measures that as faster",
            chunk(bytes)
        )
    }
}
