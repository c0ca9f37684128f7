//! Reduction kernels over packed bytes, and the error for an operator that a type does not have.
//!
//! The rules are those of docs/reductions.md: integer sums and products wrap; float minima and maxima are a NaN if any input is one, and
//! -0 < +0; a NaN that a float operator makes is always the same one (`NAN`), so that no result depends on which side of an addition a
//! NaN stood. With that every predefined operator gives the same bits whichever operand comes first; only the grouping matters, and only
//! for float sums and products.
use super::Element;
use crate::model::error::Result;
use crate::model::op::UserFunction;
use crate::model::{Basic, Error, ErrorClass, Op, Predefined};
use crate::sys::simd::{Work, wide, wide_work};
use crate::transport::shm::cells::Window;
use crate::transport::shm::way::Way;

/// `acc = acc op x` over packed items.
pub(super) type Fold = fn(&mut [u8], &[u8]);

/// A predefined operator on a basic type.
#[derive(Clone, Copy)]
pub(super) struct Folds {
    pub(super) fold: Fold,
    /// `out = own op cell` for as many bytes as `out` has, from the end on or upwards: for cells that another core has just written through its cache (see
    /// transport's `copy::from_ring` about the direction).
    pub(super) join: fn(&mut [u8], &[u8], &Window<'_>),
}

/// An operator on a type, ready to run.
#[derive(Clone)]
pub(super) enum Kernel {
    Predefined(Folds),
    /// `inout = input op inout`.
    User(UserFunction),
}

impl Kernel {
    /// The kernel, or the sentence that says why there is none.
    pub(super) fn new(op: &Op, element: &Element, what: &str) -> Result<Kernel> {
        let predefined = match op {
            Op::User { function, .. } => return Ok(Kernel::User(function.clone())),
            Op::Predefined(predefined) => *predefined,
        };
        let undefined = |of: &str| {
            Err(Error::new(
                ErrorClass::Op,
                format!(
                    "{what} with {} was asked for elements of {of}, for which it is not defined; {}",
                    predefined.name(),
                    advice(predefined, element.basic)
                ),
            ))
        };
        match element.basic {
            None => undefined("a struct type"),
            Some(basic) if !predefined.defined_for(basic) => undefined(basic.name()),
            Some(basic) => match fold_of(predefined, basic) {
                Some(folds) => Ok(Kernel::Predefined(folds)),
                None => undefined(basic.name()),
            },
        }
    }

    /// `x = acc op x`, where `acc` comes from the lower ranks.
    pub(super) fn combine(&self, acc: &[u8], x: &mut [u8]) {
        match self {
            Kernel::Predefined(folds) => (folds.fold)(x, acc),
            Kernel::User(function) => function(acc, x),
        }
    }

    /// `acc = acc op x`; `x` is used up.
    pub(super) fn fold(&self, acc: &mut [u8], x: &mut [u8]) {
        match self {
            Kernel::Predefined(folds) => (folds.fold)(acc, x),
            Kernel::User(function) => {
                function(acc, x);
                acc.copy_from_slice(x);
            }
        }
    }
}

/// Whether the grouping of operands shows in the result: then all forms fold strictly from the left in rank order.
pub(super) fn order_matters(op: &Op, element: &Element) -> bool {
    match op {
        Op::User { .. } => true,
        Op::Predefined(p) => {
            matches!(p, Predefined::Sum | Predefined::Product)
                && !matches!(element.basic, Some(b) if !matches!(b, Basic::F32 | Basic::F64))
        }
    }
}

fn advice(op: Predefined, basic: Option<Basic>) -> &'static str {
    match (basic, op) {
        (None, _) => "reduce its fields one by one, or give a user operation",
        (Some(Basic::Bool), _) => {
            "use logical_and, logical_or or logical_xor, or convert to an integer type"
        }
        (Some(Basic::F32 | Basic::F64), _) => {
            "floats have sum, product, min and max; convert to an integer type for the others"
        }
        _ => "raw bytes have only the bitwise operators; use an integer type",
    }
}

/// Up to so many bytes the wide registers are not worth the question whether there are any.
const SHORT: usize = 64;

#[inline(always)]
fn each<const N: usize>(acc: &mut [u8], x: &[u8], f: impl Fn([u8; N], [u8; N]) -> [u8; N]) {
    for (a, b) in acc.chunks_exact_mut(N).zip(x.chunks_exact(N)) {
        // The chunks have exactly N bytes: these copies are loads.
        let (mut left, mut right) = ([0; N], [0; N]);
        left.copy_from_slice(a);
        right.copy_from_slice(b);
        a.copy_from_slice(&f(left, right));
    }
}

/// Bytes that are joined upwards, which the compiler makes wide; unless everything goes upwards, these blocks go downwards.
const BLOCK: usize = 1024;

/// See [`Folds::join`].
struct Join<'a, 'w, F, const N: usize> {
    out: &'a mut [u8],
    own: &'a [u8],
    cell: &'a Window<'w>,
    f: F,
}

impl<F: Fn([u8; N], [u8; N]) -> [u8; N], const N: usize> Work for Join<'_, '_, F, N> {
    #[inline(always)]
    fn run(self) {
        let len = self.out.len();
        let own = &self.own[..len];
        let most = match self.cell.way() {
            Way::Upwards => len.max(1),
            _ => BLOCK,
        };
        for at in (0..len).step_by(most).rev() {
            let block = at..len.min(at + most);
            let cell = self.cell.part(at, block.len());
            let own = own[block.clone()].chunks_exact(N);
            let out = self.out[block].chunks_exact_mut(N);
            for ((out, own), x) in out.zip(own).zip(cell.items::<N>()) {
                let mut left = [0; N];
                left.copy_from_slice(own);
                out.copy_from_slice(&(self.f)(left, x));
            }
        }
    }
}

macro_rules! fold {
    ($t:ty, |$a:ident, $b:ident| $result:expr) => {{
        #[inline(always)]
        fn combine(
            left: [u8; size_of::<$t>()],
            right: [u8; size_of::<$t>()],
        ) -> [u8; size_of::<$t>()] {
            let ($a, $b) = (<$t>::from_ne_bytes(left), <$t>::from_ne_bytes(right));
            let result: $t = $result;
            result.to_ne_bytes()
        }
        Some(Folds {
            fold: |acc, x| match acc.len() {
                ..=SHORT => each(acc, x, combine),
                _ => wide(|| each(acc, x, combine)),
            },
            join: |out, own, cell| {
                wide_work(Join {
                    out,
                    own,
                    cell,
                    f: combine,
                });
            },
        })
    }};
}

macro_rules! integer {
    ($t:ty, $op:expr) => {
        match $op {
            Predefined::Max => fold!($t, |a, b| a.max(b)),
            Predefined::Min => fold!($t, |a, b| a.min(b)),
            Predefined::Sum => fold!($t, |a, b| a.wrapping_add(b)),
            Predefined::Product => fold!($t, |a, b| a.wrapping_mul(b)),
            Predefined::LogicalAnd => fold!($t, |a, b| (a != 0 && b != 0) as $t),
            Predefined::LogicalOr => fold!($t, |a, b| (a != 0 || b != 0) as $t),
            Predefined::LogicalXor => fold!($t, |a, b| ((a != 0) != (b != 0)) as $t),
            Predefined::BitwiseAnd => fold!($t, |a, b| a & b),
            Predefined::BitwiseOr => fold!($t, |a, b| a | b),
            Predefined::BitwiseXor => fold!($t, |a, b| a ^ b),
        }
    };
}

macro_rules! float {
    ($t:ty, $op:expr) => {
        match $op {
            // Equal values differ at most in the sign of a zero: "and" keeps the + of a maximum, "or" the - of a minimum.
            Predefined::Max => fold!($t, |a, b| {
                let larger = if a > b { a } else { b };
                let equal = <$t>::from_bits(a.to_bits() & b.to_bits());
                let known = if a == b { equal } else { larger };
                if a.is_nan() | b.is_nan() {
                    <$t>::NAN
                } else {
                    known
                }
            }),
            Predefined::Min => fold!($t, |a, b| {
                let smaller = if a < b { a } else { b };
                let equal = <$t>::from_bits(a.to_bits() | b.to_bits());
                let known = if a == b { equal } else { smaller };
                if a.is_nan() | b.is_nan() {
                    <$t>::NAN
                } else {
                    known
                }
            }),
            Predefined::Sum => fold!($t, |a, b| {
                let sum = a + b;
                if sum.is_nan() { <$t>::NAN } else { sum }
            }),
            Predefined::Product => fold!($t, |a, b| {
                let product = a * b;
                if product.is_nan() {
                    <$t>::NAN
                } else {
                    product
                }
            }),
            _ => None,
        }
    };
}

fn fold_of(op: Predefined, basic: Basic) -> Option<Folds> {
    match basic {
        Basic::I8 => integer!(i8, op),
        Basic::I16 => integer!(i16, op),
        Basic::I32 => integer!(i32, op),
        Basic::I64 => integer!(i64, op),
        Basic::U8 | Basic::Byte => integer!(u8, op),
        Basic::U16 => integer!(u16, op),
        Basic::U32 => integer!(u32, op),
        Basic::U64 => integer!(u64, op),
        Basic::F32 => float!(f32, op),
        Basic::F64 => float!(f64, op),
        // A bool is 0 or 1: the bitwise operators are the logical ones, and stay within 0 and 1.
        Basic::Bool => match op {
            Predefined::LogicalAnd | Predefined::BitwiseAnd | Predefined::Min => {
                integer!(u8, Predefined::BitwiseAnd)
            }
            Predefined::LogicalOr | Predefined::BitwiseOr | Predefined::Max => {
                integer!(u8, Predefined::BitwiseOr)
            }
            Predefined::LogicalXor | Predefined::BitwiseXor => {
                integer!(u8, Predefined::BitwiseXor)
            }
            Predefined::Sum | Predefined::Product => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(op: Predefined, a: f64, b: f64) -> u64 {
        let kernel = Kernel::new(&Op::Predefined(op), &Element::of(Basic::F64), "reduce").unwrap();
        let (mut acc, mut x) = (a.to_ne_bytes(), b.to_ne_bytes());
        kernel.fold(&mut acc, &mut x);
        u64::from_ne_bytes(acc)
    }

    #[test]
    fn float_minima_and_maxima_know_nan_and_the_sign_of_zero() {
        for (a, b) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert_eq!(two(Predefined::Max, a, b), 0.0_f64.to_bits());
            assert_eq!(two(Predefined::Min, a, b), (-0.0_f64).to_bits());
        }
        let odd = f64::from_bits(0xfff8_0000_0000_0001);
        for op in [
            Predefined::Max,
            Predefined::Min,
            Predefined::Sum,
            Predefined::Product,
        ] {
            assert_eq!(two(op, odd, 1.0), f64::NAN.to_bits());
            assert_eq!(two(op, 1.0, odd), f64::NAN.to_bits());
        }
        assert_eq!(two(Predefined::Max, -3.0, 2.0), 2.0_f64.to_bits());
        assert_eq!(
            two(Predefined::Min, f64::NEG_INFINITY, 2.0),
            f64::NEG_INFINITY.to_bits()
        );
    }

    #[test]
    fn integers_wrap() {
        let sum = Op::Predefined(Predefined::Sum);
        let kernel = Kernel::new(&sum, &Element::of(Basic::I8), "reduce").unwrap();
        let mut acc = [127_u8, 1];
        kernel.fold(&mut acc, &mut [1, 2]);
        assert_eq!(acc, [128, 3]);
    }

    #[test]
    fn what_is_not_defined_gets_a_sentence() {
        let text = |op, element: Element| {
            Kernel::new(&Op::Predefined(op), &element, "all_reduce")
                .err()
                .unwrap()
                .to_string()
        };
        let pair = Element {
            basic: None,
            size: 12,
        };
        assert_eq!(
            text(Predefined::Sum, pair),
            "all_reduce with sum was asked for elements of a struct type, for which it is not defined; reduce its fields one by one, \
             or give a user operation"
        );
        assert!(text(Predefined::Sum, Element::of(Basic::Bool)).contains("elements of bool"));
        assert!(text(Predefined::BitwiseOr, Element::of(Basic::F32)).contains("elements of f32"));
    }
}
