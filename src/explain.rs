//! Why a collective of several hosts runs as it does: what messages cost, and what each way comes to (`tercio explain`).
pub use crate::model::Costs;

use crate::Error;
use crate::coll::{self, Wish};

/// A collective on a cluster, of which all ways are to be explained.
///
/// # Examples
///
/// ```
/// use tercio::explain::{Costs, Question};
///
/// // Two hosts with three and one ranks.
/// let question = Question::new("bcast", &[0, 0, 0, 1]).bytes(1 << 20);
/// let ways = question.explain(&Costs::default()).unwrap();
/// assert_eq!(ways.iter().filter(|way| way.is_chosen).count(), 1);
/// let leaders = ways.iter().find(|way| way.way == "leaders").unwrap();
/// assert_eq!((leaders.messages_between, leaders.link_stress), (1, 1));
/// ```
#[derive(Clone, Debug)]
pub struct Question {
    operation: String,
    hosts: Vec<u32>,
    root: usize,
    bytes: usize,
    is_ordered: bool,
}

impl Question {
    /// `operation` by its name (`bcast`, `all_reduce`, ...); `hosts` has a number for the host of each rank.
    pub fn new(operation: &str, hosts: &[u32]) -> Question {
        Question {
            operation: operation.to_string(),
            hosts: hosts.to_vec(),
            root: 0,
            bytes: 8,
            is_ordered: false,
        }
    }

    /// Bytes that a rank gives or gets: of a broadcast or reduction all, of a gather, scatter or exchange one block. 8 if not said.
    pub fn bytes(mut self, bytes: usize) -> Question {
        self.bytes = bytes;
        self
    }

    /// The root; 0 if not said.
    pub fn root(mut self, root: usize) -> Question {
        self.root = root;
        self
    }

    /// Whether the order of operands shows in the result, as in sums of floats.
    pub fn ordered(mut self, is_ordered: bool) -> Question {
        self.is_ordered = is_ordered;
        self
    }

    /// All ways.
    ///
    /// # Errors
    ///
    /// An operation that there is not, no rank or more than 1024, a root that is none of them, more than 1 GiB.
    pub fn explain(&self, costs: &Costs) -> Result<Vec<Way>, Error> {
        let wish = Wish {
            operation: &self.operation,
            hosts: &self.hosts,
            root: self.root,
            bytes: self.bytes,
            is_ordered: self.is_ordered,
        };
        wish.explain(costs)
    }
}

pub use coll::Explained as Way;
