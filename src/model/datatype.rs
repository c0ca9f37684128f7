//! Layouts: where the bytes of an element lie in memory, and the code by which two ends compare their types.
//!
//! What travels is the packed stream: the basic items of all elements in typemap order, without gaps. Two layouts may differ and still
//! go together if their signatures (the sequence of basic items) do.
use std::sync::Arc;

/// A basic type: what a typemap is made of. The numbers are our wire codes; 0 is "unchecked".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Basic {
    Bool = 1,
    I8 = 2,
    I16 = 3,
    I32 = 4,
    I64 = 5,
    U8 = 6,
    U16 = 7,
    U32 = 8,
    U64 = 9,
    F32 = 10,
    F64 = 11,
    /// A raw byte: goes together with everything.
    Byte = 12,
}

impl Basic {
    /// Bytes of one item.
    pub(crate) const fn size(self) -> usize {
        match self {
            Basic::Bool | Basic::I8 | Basic::U8 | Basic::Byte => 1,
            Basic::I16 | Basic::U16 => 2,
            Basic::I32 | Basic::U32 | Basic::F32 => 4,
            Basic::I64 | Basic::U64 | Basic::F64 => 8,
        }
    }

    /// The name that a Rust programmer knows it by (`isize` and `usize` travel as `i64` and `u64`).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Basic::Bool => "bool",
            Basic::I8 => "i8",
            Basic::I16 => "i16",
            Basic::I32 => "i32",
            Basic::I64 => "i64",
            Basic::U8 => "u8",
            Basic::U16 => "u16",
            Basic::U32 => "u32",
            Basic::U64 => "u64",
            Basic::F32 => "f32",
            Basic::F64 => "f64",
            Basic::Byte => "byte",
        }
    }

    const ALL: [Basic; 12] = [
        Basic::Bool,
        Basic::I8,
        Basic::I16,
        Basic::I32,
        Basic::I64,
        Basic::U8,
        Basic::U16,
        Basic::U32,
        Basic::U64,
        Basic::F32,
        Basic::F64,
        Basic::Byte,
    ];
}

/// 0 (unchecked), a basic type's number, or a hash (with bit 63 set) of the shortest period of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct TypeCode(pub(crate) u64);

impl TypeCode {
    /// Goes together with every other code.
    pub(crate) const UNCHECKED: TypeCode = TypeCode(0);

    /// The code of messages whose items are all `basic`.
    pub(crate) const fn of(basic: Basic) -> TypeCode {
        match basic {
            Basic::Byte => TypeCode::UNCHECKED,
            other => TypeCode(other as u64),
        }
    }

    /// The code of a signature: of its shortest period, so that `[i32; 6]` and three `(i32, i32)` agree.
    pub(crate) fn of_signature(items: &[Basic]) -> TypeCode {
        let period = &items[..shortest_period(items)];
        match period {
            [] => TypeCode::UNCHECKED,
            [one] => TypeCode::of(*one),
            many if many.contains(&Basic::Byte) => TypeCode::UNCHECKED,
            many => {
                // FNV-1a: short inputs, and both ends run the same code.
                let mut hash = 0xcbf2_9ce4_8422_2325_u64;
                for item in many {
                    hash = (hash ^ *item as u64).wrapping_mul(0x0000_0100_0000_01b3);
                }
                TypeCode(hash | 1 << 63)
            }
        }
    }

    /// Whether a message sent as `self` may be received as `other`, as far as the codes can tell.
    pub(crate) fn goes_with(self, other: TypeCode) -> bool {
        self == other || self == TypeCode::UNCHECKED || other == TypeCode::UNCHECKED
    }

    /// Whether all items are of one basic type.
    pub(crate) const fn is_basic(self) -> bool {
        self.0 != 0 && self.0 >> 63 == 0
    }

    /// For error texts.
    pub(crate) fn name(self) -> String {
        match Basic::ALL.iter().find(|b| **b as u64 == self.0) {
            Some(basic) => basic.name().to_string(),
            None if self.0 == 0 => "bytes".to_string(),
            None => format!("struct type #{:08x}", self.0 as u32),
        }
    }
}

fn shortest_period(items: &[Basic]) -> usize {
    let n = items.len();
    (1..=n)
        .find(|&p| n % p == 0 && (p..n).all(|i| items[i] == items[i - p]))
        .unwrap_or(0)
}

/// A run of bytes of an element, `disp` from the element's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) disp: isize,
    pub(crate) len: usize,
}

/// The layout of one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Runs in typemap order; neighbouring ones are merged.
    blocks: Vec<Block>,
    /// From one element to the next.
    extent: isize,
    lower_bound: isize,
    /// Packed bytes of one element.
    size: usize,
    /// The basic items in typemap order with their displacements.
    items: Vec<(isize, Basic)>,
    code: TypeCode,
    period: usize,
}

impl Layout {
    /// The layout with these items. `lower_bound` and `extent` are as MPI computes them for the constructor that made the type.
    pub(crate) fn new(items: Vec<(isize, Basic)>, lower_bound: isize, extent: isize) -> Layout {
        let mut blocks: Vec<Block> = Vec::new();
        for &(disp, basic) in &items {
            match blocks.last_mut() {
                Some(last) if last.disp + last.len as isize == disp => last.len += basic.size(),
                _ => blocks.push(Block {
                    disp,
                    len: basic.size(),
                }),
            }
        }
        let signature: Vec<Basic> = items.iter().map(|i| i.1).collect();
        let code = TypeCode::of_signature(&signature);
        let period = signature[..shortest_period(&signature)]
            .iter()
            .map(|b| b.size())
            .sum();
        Layout {
            size: blocks.iter().map(|b| b.len).sum(),
            blocks,
            extent,
            lower_bound,
            items,
            code,
            period,
        }
    }

    /// One basic item.
    pub(crate) fn basic(basic: Basic) -> Layout {
        Layout::new(vec![(0, basic)], 0, basic.size() as isize)
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn extent(&self) -> isize {
        self.extent
    }

    pub(crate) fn lower_bound(&self) -> isize {
        self.lower_bound
    }

    /// Packed bytes of one element.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn items(&self) -> &[(isize, Basic)] {
        &self.items
    }

    pub(crate) fn code(&self) -> TypeCode {
        self.code
    }

    /// Packed bytes after which the signature repeats.
    pub(crate) fn period(&self) -> usize {
        self.period
    }

    /// `Some` if all items are of one basic type.
    pub(crate) fn uniform(&self) -> Option<Basic> {
        let first = self.items.first()?.1;
        self.items.iter().all(|i| i.1 == first).then_some(first)
    }

    /// Whether elements side by side are one run without gaps.
    pub(crate) fn is_contiguous(&self) -> bool {
        match self.blocks[..] {
            [] => true,
            [block] => block.disp == 0 && self.extent == block.len as isize,
            _ => false,
        }
    }
}

/// How to find bytes that no fast path covers: a layout and how many elements of it.
#[derive(Clone, Debug)]
pub(crate) struct Strided {
    pub(crate) layout: Arc<Layout>,
    pub(crate) count: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_of_three_ints_goes_with_an_array_of_ints() {
        let code = TypeCode::of_signature(&[Basic::I32; 3]);
        assert_eq!(code, TypeCode::of(Basic::I32));
        let pairs = TypeCode::of_signature(&[Basic::I32, Basic::F64, Basic::I32, Basic::F64]);
        assert_eq!(pairs, TypeCode::of_signature(&[Basic::I32, Basic::F64]));
        assert!(!pairs.goes_with(code));
        assert!(pairs.goes_with(TypeCode::UNCHECKED));
    }

    #[test]
    fn neighbouring_items_become_one_block() {
        let layout = Layout::new(
            vec![(0, Basic::I32), (4, Basic::I32), (16, Basic::F64)],
            0,
            24,
        );
        assert_eq!(
            layout.blocks(),
            [Block { disp: 0, len: 8 }, Block { disp: 16, len: 8 }]
        );
        assert_eq!(layout.size(), 16);
        assert!(!layout.is_contiguous());
        assert!(Layout::basic(Basic::F64).is_contiguous());
    }
}
