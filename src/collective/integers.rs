//! Reductions of integers into integers of another width or sign: combined in the type that is sent, each result converted with a check.
//!
//! Programs for the crate `mpi` do this without knowing it: `let mut sum = 0; comm.scan_into(&(rank as usize), &mut sum, ...)` makes `sum`
//! an `i32`, over whose end the system MPI then writes.
use crate::datatype::span::Kind;
use crate::engine::RecvSpan;
use crate::model::{Basic, Error, ErrorClass};

/// Results on their way into a buffer of another integer type.
pub(super) struct Converted {
    call: &'static str,
    from: Basic,
    into: Basic,
    /// Room for the results as they are combined. Words, so that every type is aligned in it.
    room: Vec<u64>,
    to: *mut u8,
    count: usize,
}

impl Converted {
    /// Whether results of `from` may go into a buffer of `into`: both are integers side by side.
    pub(super) fn takes(from: &Kind, into: &Kind) -> bool {
        matches!((from, into), (Kind::Basic(a), Kind::Basic(b)) if a != b && is_integer(*a) && is_integer(*b))
    }

    /// Room for `count` results of `from`, and the span over it; `to` is where they go as `into`.
    ///
    /// # Safety
    /// `to` is valid for writing `count` elements of `into`, and the caller's alone, until [`Converted::settle`] was called.
    pub(super) unsafe fn new(
        call: &'static str,
        (from, into): (&Kind, &Kind),
        to: *mut u8,
        count: usize,
    ) -> (Converted, RecvSpan) {
        let (Kind::Basic(from), Kind::Basic(into)) = (from, into) else {
            unreachable!("asked of `takes` before")
        };
        let mut converted = Converted {
            call,
            from: *from,
            into: *into,
            room: vec![0; (count * from.size()).div_ceil(8)],
            to,
            count,
        };
        let room = converted.room.as_mut_ptr().cast();
        // SAFETY: the room has so many bytes, and moves with `converted` without changing its place; nobody else uses it.
        let span = unsafe { Kind::Basic(*from).recv(room, count) };
        (converted, span)
    }

    /// Puts the results, which have come in, in their place.
    pub(super) fn settle(self) -> Result<(), Error> {
        let bytes = self.room.iter().flat_map(|word| word.to_ne_bytes());
        let bytes: Vec<u8> = bytes.collect();
        for (i, item) in bytes
            .chunks_exact(self.from.size())
            .take(self.count)
            .enumerate()
        {
            let value = read(self.from, item);
            let Some(fitting) = write(self.into, value) else {
                let text = format!(
                    "{} gave {value} as element {i}, combined as {}, which does not fit the {} of the receive buffer; receive {}",
                    self.call,
                    self.from.name(),
                    self.into.name(),
                    self.from.name()
                );
                return Err(Error::new(ErrorClass::Arg, text));
            };
            let size = self.into.size();
            // SAFETY: by the contract of `new`, element `i` of `count` is writable; `fitting` has at least `size` bytes.
            unsafe {
                self.to
                    .add(i * size)
                    .copy_from_nonoverlapping(fitting.as_ptr(), size);
            }
        }
        Ok(())
    }
}

fn is_integer(basic: Basic) -> bool {
    use Basic::*;
    matches!(basic, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// The integer in `item`, which has the size of `basic`.
fn read(basic: Basic, item: &[u8]) -> i128 {
    let mut bytes = [0; 8];
    bytes[..item.len()].copy_from_slice(item);
    // Little-endian (both supported architectures): the low bytes come first.
    let word = u64::from_ne_bytes(bytes);
    match basic {
        Basic::I8 => word as i8 as i128,
        Basic::I16 => word as i16 as i128,
        Basic::I32 => word as i32 as i128,
        Basic::I64 => word as i64 as i128,
        _ => word as i128,
    }
}

/// The bytes of `value` as `basic`, of which the first ones count; `None` if it does not fit.
fn write(basic: Basic, value: i128) -> Option<[u8; 8]> {
    let bits = 8 * basic.size() as u32;
    let (least, most) = match basic {
        Basic::I8 | Basic::I16 | Basic::I32 | Basic::I64 => {
            (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
        }
        _ => (0, (1_i128 << bits) - 1),
    };
    (least..=most)
        .contains(&value)
        .then(|| (value as u64).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Basic::*;

    #[test]
    fn every_integer_survives_its_own_type_and_nothing_else_fits() {
        for (basic, least, most) in [
            (I8, i8::MIN as i128, i8::MAX as i128),
            (I16, i16::MIN as i128, i16::MAX as i128),
            (I32, i32::MIN as i128, i32::MAX as i128),
            (I64, i64::MIN as i128, i64::MAX as i128),
            (U8, 0, u8::MAX as i128),
            (U16, 0, u16::MAX as i128),
            (U32, 0, u32::MAX as i128),
            (U64, 0, u64::MAX as i128),
        ] {
            for value in [least, least + 1, 0, 1, most - 1, most] {
                let bytes = write(basic, value).unwrap();
                assert_eq!(read(basic, &bytes[..basic.size()]), value, "{basic:?}");
            }
            assert_eq!(write(basic, least - 1), None);
            assert_eq!(write(basic, most + 1), None);
        }
    }
}
