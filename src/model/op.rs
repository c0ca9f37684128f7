//! Reduction operators: which there are, which commute, which types they are defined for. The kernels are in coll/.
use super::Basic;
use std::sync::Arc;

/// The operators that MPI defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Predefined {
    Max = 1,
    Min = 2,
    Sum = 3,
    Product = 4,
    LogicalAnd = 5,
    BitwiseAnd = 6,
    LogicalOr = 7,
    BitwiseOr = 8,
    LogicalXor = 9,
    BitwiseXor = 10,
}

impl Predefined {
    /// The name that `SystemOperation` gives it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Predefined::Max => "max",
            Predefined::Min => "min",
            Predefined::Sum => "sum",
            Predefined::Product => "product",
            Predefined::LogicalAnd => "logical_and",
            Predefined::BitwiseAnd => "bitwise_and",
            Predefined::LogicalOr => "logical_or",
            Predefined::BitwiseOr => "bitwise_or",
            Predefined::LogicalXor => "logical_xor",
            Predefined::BitwiseXor => "bitwise_xor",
        }
    }

    /// Whether MPI (with Rust's `bool` as a logical type, on which bitwise operators work as well) defines it for `basic`.
    pub(crate) const fn defined_for(self, basic: Basic) -> bool {
        use Predefined::*;
        match basic {
            Basic::F32 | Basic::F64 => matches!(self, Max | Min | Sum | Product),
            Basic::Bool => matches!(
                self,
                LogicalAnd
                    | LogicalOr
                    | LogicalXor
                    | BitwiseAnd
                    | BitwiseOr
                    | BitwiseXor
                    | Max
                    | Min
            ),
            Basic::Byte => matches!(self, BitwiseAnd | BitwiseOr | BitwiseXor),
            _ => true,
        }
    }
}

/// A user's operator: `inout[i] = input[i] op inout[i]` over packed elements.
pub(crate) type UserFunction = Arc<dyn Fn(&[u8], &mut [u8]) + Send + Sync>;

/// An operator as a collective takes it.
#[derive(Clone)]
pub(crate) enum Op {
    Predefined(Predefined),
    /// Called with (input, inout) as MPI's user functions are: `input` comes from the lower ranks.
    User {
        function: UserFunction,
        commutative: bool,
    },
}

impl Op {
    /// The number that stands in signatures: a predefined one's, or whether a user's is said to commute.
    pub(crate) fn number(&self) -> u8 {
        match self {
            Op::Predefined(p) => *p as u8,
            Op::User {
                commutative: true, ..
            } => 30,
            Op::User {
                commutative: false, ..
            } => 31,
        }
    }
}
