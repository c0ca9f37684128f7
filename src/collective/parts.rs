//! Slices of differing lengths, one for each rank, and the one buffer that they travel in.
use super::call::Asked;
use crate::coll::{Call, Part};
use crate::datatype::Equivalence;
use crate::datatype::room::Room;
use crate::datatype::span::{self, Kind};
use crate::engine::SendSpan;
use crate::model::{Error, ErrorClass};

/// The parts of a buffer in which slices of `lens` elements of `size` packed bytes lie one after the other, and the elements of all.
pub(super) fn in_a_row(lens: &[u64], size: usize) -> (Vec<Part>, u64) {
    let mut elements = 0_u64;
    let parts = lens.iter().map(|&len| {
        let at = elements as usize * size;
        elements += len;
        let bytes = len as usize * size;
        Part { at, bytes }
    });
    (parts.collect(), elements)
}

/// How long each is.
pub(super) fn lengths<T>(values: &[Vec<T>]) -> Vec<u64> {
    values.iter().map(|values| values.len() as u64).collect()
}

/// The slices of `lens` elements that lie in `flat` one after the other.
pub(super) fn split<T>(flat: Vec<T>, lens: &[u64]) -> Vec<Vec<T>> {
    let mut flat = flat.into_iter();
    let part = |&len: &u64| flat.by_ref().take(len as usize).collect();
    lens.iter().map(part).collect()
}

/// Slices, packed one after the other.
pub(super) struct Packed {
    kind: Kind,
    bytes: Vec<u8>,
    pub(super) parts: Vec<Part>,
    /// Packed bytes of an element.
    pub(super) size: usize,
}

impl Packed {
    #[track_caller]
    pub(super) fn of<T: Equivalence>(values: &[Vec<T>]) -> Packed {
        let kind = Kind::of(&T::equivalent_datatype(), Some(size_of::<T>()));
        let size = kind.size();
        let (parts, elements) = in_a_row(&lengths(values), size);
        let mut bytes = vec![0; elements as usize * size];
        for (values, part) in values.iter().zip(&parts) {
            // SAFETY: borrowed until it is packed.
            let span = unsafe { span::send(values) };
            span.pack_at(0, &mut bytes[part.at..part.at + part.bytes]);
        }
        Packed {
            kind,
            bytes,
            parts,
            size,
        }
    }

    /// All of them.
    ///
    /// # Safety
    /// They are not touched until the transfer that takes the span is complete.
    pub(super) unsafe fn send(&self) -> SendSpan {
        // SAFETY: by the contract of this function.
        unsafe { SendSpan::contiguous(self.bytes.as_ptr(), self.bytes.len(), self.kind.code()) }
    }
}

impl Asked<'_> {
    /// Gives the root's vector to all.
    #[track_caller]
    pub(super) fn broadcast_vec<T: Equivalence>(&self, values: &mut Vec<T>) -> Result<(), Error> {
        let root = self.root()?;
        let mut len = [values.len() as u64];
        // SAFETY: borrowed until the blocking call returns.
        let span = unsafe { span::recv(&mut len) };
        self.run(Call::Broadcast { root, span: &span })?;
        if self.rank() == root {
            // SAFETY: borrowed until the blocking call returns.
            let span = unsafe { span::recv(values) };
            return self.run(Call::Broadcast { root, span: &span });
        }
        let mut room = self.room(len[0])?;
        // SAFETY: it is not touched until the blocking call returns, and is full then.
        *values = unsafe {
            self.run(Call::Broadcast {
                root,
                span: &room.span(),
            })?;
            room.values()
        };
        Ok(())
    }

    /// The slices of all processes at the root.
    #[track_caller]
    pub(super) fn gather_slices<T: Equivalence>(
        &self,
        values: &[T],
    ) -> Result<Option<Vec<Vec<T>>>, Error> {
        let (root, bytes) = (self.root()?, span::kind(values).size());
        let lens = [values.len() as u64];
        // SAFETY: both are borrowed until the blocking calls return.
        let (send_len, send) = unsafe { (span::send(&lens), span::send(values)) };
        if self.rank() != root {
            self.run(Call::Gather {
                root,
                send: &send_len,
                recv: None,
            })?;
            if bytes > 0 {
                self.run(Call::GatherVar {
                    root,
                    send: &send,
                    recv: None,
                })?;
            }
            return Ok(None);
        }
        let mut lens = vec![0_u64; self.size()];
        // SAFETY: borrowed until the blocking call returns.
        let recv = unsafe { span::recv(&mut lens) };
        self.run(Call::Gather {
            root,
            send: &send_len,
            recv: Some(&recv),
        })?;
        let (parts, total) = in_a_row(&lens, bytes);
        let mut room = self.room(total)?;
        // SAFETY: it is not touched until the blocking call returns, and is full then.
        let flat = unsafe {
            if bytes > 0 {
                let recv = room.span();
                self.run(Call::GatherVar {
                    root,
                    send: &send,
                    recv: Some((&recv, &parts[..])),
                })?;
            }
            room.values()
        };
        Ok(Some(split(flat, &lens)))
    }

    /// The slices of all processes at all of them.
    #[track_caller]
    pub(super) fn all_gather_slices<T: Equivalence>(
        &self,
        values: &[T],
    ) -> Result<Vec<Vec<T>>, Error> {
        let bytes = span::kind(values).size();
        let (len, mut lens) = ([values.len() as u64], vec![0_u64; self.size()]);
        // SAFETY: all are borrowed until the blocking calls return.
        let send = unsafe {
            self.run(Call::AllGather {
                send: &span::send(&len),
                recv: &span::recv(&mut lens),
            })?;
            span::send(values)
        };
        let (parts, total) = in_a_row(&lens, bytes);
        let mut room = self.room(total)?;
        // SAFETY: it is not touched until the blocking call returns, and is full then.
        let flat = unsafe {
            if bytes > 0 {
                self.run(Call::AllGatherVar {
                    send: &send,
                    recv: &room.span(),
                    parts: &parts,
                })?;
            }
            room.values()
        };
        Ok(split(flat, &lens))
    }

    /// One of the root's slices for each process.
    #[track_caller]
    pub(super) fn scatter_slices<T: Equivalence>(
        &self,
        values: Option<&[Vec<T>]>,
    ) -> Result<Vec<T>, Error> {
        let root = self.root()?;
        let values = self.at_root_only(root, values, <[Vec<T>]>::len)?;
        let lens: Option<Vec<u64>> = values.map(lengths);
        let mut len = [0_u64];
        // SAFETY: both are borrowed until the blocking call returns.
        unsafe {
            let send = lens.as_deref().map(|lens| span::send(lens));
            self.run(Call::Scatter {
                root,
                send: send.as_ref(),
                recv: &span::recv(&mut len),
            })?;
        }
        let mut room = self.room(len[0])?;
        let all = values.map(Packed::of);
        // SAFETY: it is not touched until the blocking call returns, and is full then.
        unsafe {
            if room.size() > 0 {
                let send = all.as_ref().map(|all| all.send());
                self.run(Call::ScatterVar {
                    root,
                    send: send
                        .as_ref()
                        .zip(all.as_ref())
                        .map(|(send, all)| (send, &all.parts[..])),
                    recv: &room.span(),
                })?;
            }
            Ok(room.values())
        }
    }

    /// Room for `count` elements of a call that others have begun: without it the job cannot go on.
    #[track_caller]
    pub(super) fn room<T: Equivalence>(&self, count: u64) -> Result<Room<T>, Error> {
        let room = usize::try_from(count).ok().and_then(Room::new);
        room.ok_or_else(|| {
            let text = format!(
                "{} has {count} elements of {} bytes to receive, for which there is no memory; receive them in parts",
                self.call,
                size_of::<T>()
            );
            Error::new(ErrorClass::Memory, text)
        })
    }

    /// What the root is to give, of which there must be one for each process; `None` elsewhere.
    pub(super) fn at_root_only<'v, V: ?Sized>(
        &self,
        root: usize,
        values: Option<&'v V>,
        len: fn(&V) -> usize,
    ) -> Result<Option<&'v V>, Error> {
        if self.rank() != root {
            return Ok(None);
        }
        match values {
            Some(values) if len(values) == self.size() => Ok(Some(values)),
            Some(values) => Err(self.not_one_for_each(len(values), " at its root")),
            None => Err(self.nothing_at_root("values")),
        }
    }

    /// The error of a root that gives `None` instead of `what`.
    #[cold]
    pub(super) fn nothing_at_root(&self, what: &str) -> Error {
        let (call, root) = (self.call, self.rank());
        let text =
            format!("{call} was given no {what} at its root, rank {root}; the root gives Some");
        Error::new(ErrorClass::Arg, text)
    }

    /// The error of `given` values, of which there should be one for each process.
    #[cold]
    pub(super) fn not_one_for_each(&self, given: usize, place: &str) -> Error {
        let (call, ranks) = (self.call, self.size());
        let text =
            format!("{call} was given {given} values{place}, for {ranks} ranks; give one for each");
        Error::new(ErrorClass::Count, text)
    }
}
