//! The signature of a collective call: what all members of a communicator must agree on, in 64 bits.
use super::TypeCode;

/// Which collective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum CollKind {
    Barrier = 1,
    Broadcast = 2,
    Reduce = 3,
    AllReduce = 4,
    Gather = 5,
    GatherVar = 6,
    Scatter = 7,
    ScatterVar = 8,
    AllGather = 9,
    AllGatherVar = 10,
    AllToAll = 11,
    AllToAllVar = 12,
    Scan = 13,
    ExclusiveScan = 14,
    ReduceScatterBlock = 15,
    Duplicate = 16,
    Split = 17,
    Finalize = 18,
    Spawn = 19,
    Merge = 20,
}

impl CollKind {
    const ALL: [CollKind; 20] = [
        CollKind::Barrier,
        CollKind::Broadcast,
        CollKind::Reduce,
        CollKind::AllReduce,
        CollKind::Gather,
        CollKind::GatherVar,
        CollKind::Scatter,
        CollKind::ScatterVar,
        CollKind::AllGather,
        CollKind::AllGatherVar,
        CollKind::AllToAll,
        CollKind::AllToAllVar,
        CollKind::Scan,
        CollKind::ExclusiveScan,
        CollKind::ReduceScatterBlock,
        CollKind::Duplicate,
        CollKind::Split,
        CollKind::Finalize,
        CollKind::Spawn,
        CollKind::Merge,
    ];

    /// The kind with this number.
    pub(crate) fn from_number(number: u32) -> Option<CollKind> {
        CollKind::ALL
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }

    /// The word for error texts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            CollKind::Barrier => "barrier",
            CollKind::Broadcast => "broadcast",
            CollKind::Reduce => "reduce",
            CollKind::AllReduce => "all_reduce",
            CollKind::Gather => "gather",
            CollKind::GatherVar => "gather_varcount",
            CollKind::Scatter => "scatter",
            CollKind::ScatterVar => "scatter_varcount",
            CollKind::AllGather => "all_gather",
            CollKind::AllGatherVar => "all_gather_varcount",
            CollKind::AllToAll => "all_to_all",
            CollKind::AllToAllVar => "all_to_all_varcount",
            CollKind::Scan => "scan",
            CollKind::ExclusiveScan => "exclusive_scan",
            CollKind::ReduceScatterBlock => "reduce_scatter_block",
            CollKind::Duplicate => "duplicate",
            CollKind::Split => "split",
            CollKind::Finalize => "finalize (drop of Universe)",
            CollKind::Spawn => "spawn",
            CollKind::Merge => "merge",
        }
    }
}

/// kind (6 bits) | immediate (1) | root + 1 (21) | operator (6) | type (14) | count class (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Signature(pub(crate) u64);

const IMMEDIATE: u64 = 1 << 57;

impl Signature {
    /// `code` 0 for a rank that contributes no data; `count_class` is the exact number of packed bytes where MPI demands that all
    /// say the same, else 0.
    #[inline]
    pub(crate) fn new(
        kind: CollKind,
        immediate: bool,
        root: Option<usize>,
        op: u8,
        code: TypeCode,
        count_class: u64,
    ) -> Signature {
        let root = root.map_or(0, |r| r as u64 + 1) & 0x1f_ffff;
        let mut s = (kind as u64) << 58
            | root << 36
            | (op as u64 & 0x3f) << 30
            | fold(code.0, 14) << 16
            | fold(count_class, 16);
        if immediate {
            s |= IMMEDIATE;
        }
        Signature(s)
    }

    /// Whether two members' calls go together: all equal, but a type code or count of 0 goes with everything.
    pub(crate) fn goes_with(self, other: Signature) -> bool {
        let differing = self.0 ^ other.0;
        let field = |mask: u64| differing & mask == 0 || self.0 & mask == 0 || other.0 & mask == 0;
        differing >> 30 == 0 && field(0x3fff_0000) && field(0xffff)
    }

    /// The number of its kind.
    #[inline]
    pub(crate) fn kind_number(self) -> u32 {
        (self.0 >> 58) as u32
    }

    /// The call in words, for the error that names both sides.
    pub(crate) fn describe(self) -> String {
        let kind = CollKind::from_number(self.kind_number())
            .map_or("an unknown collective", CollKind::name);
        let mut text = if self.0 & IMMEDIATE != 0 {
            format!("immediate {kind}")
        } else {
            kind.to_string()
        };
        let root = self.0 >> 36 & 0x1f_ffff;
        if root != 0 {
            text += &format!(" with root {}", root - 1);
        }
        text
    }

    /// The first thing in which two signatures differ, in words; for calls of the same kind and root.
    pub(crate) fn difference(self, other: Signature) -> &'static str {
        let differing = self.0 ^ other.0;
        match () {
            _ if differing >> 58 != 0 => "the operation",
            _ if differing & IMMEDIATE != 0 => "blocking and immediate form",
            _ if differing >> 36 & 0x1f_ffff != 0 => "the root",
            _ if differing >> 30 & 0x3f != 0 => "the operator",
            _ if differing >> 16 & 0x3fff != 0 => "the element type",
            _ => "the number of bytes",
        }
    }
}

/// `value` in `bits` bits, never 0 for a value that is not 0; exact for small values.
#[inline]
fn fold(value: u64, bits: u32) -> u64 {
    let limit = (1 << bits) - 1;
    if value <= limit / 2 {
        return value;
    }
    let hash = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits + 1);
    hash | (limit / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Basic;

    #[test]
    fn what_must_agree_is_told_apart() {
        let f64s = TypeCode::of(Basic::F64);
        let a = Signature::new(CollKind::AllReduce, false, None, 3, f64s, 800);
        assert!(a.goes_with(a));
        let other =
            |op, code, bytes| Signature::new(CollKind::AllReduce, false, None, op, code, bytes);
        assert!(!a.goes_with(other(4, f64s, 800)));
        assert!(!a.goes_with(other(3, TypeCode::of(Basic::I32), 800)));
        assert!(!a.goes_with(other(3, f64s, 400)));
        assert!(!a.goes_with(other(3, f64s, 1 << 30)));
        assert!(a.goes_with(other(3, TypeCode::UNCHECKED, 0)));
        assert!(!a.goes_with(Signature::new(
            CollKind::AllReduce,
            true,
            None,
            3,
            f64s,
            800
        )));
        let b = Signature::new(CollKind::Broadcast, false, Some(2), 0, f64s, 8);
        assert_eq!(b.describe(), "broadcast with root 2");
        assert_eq!(
            b.difference(Signature::new(
                CollKind::Broadcast,
                false,
                Some(1),
                0,
                f64s,
                8
            )),
            "the root"
        );
    }
}
