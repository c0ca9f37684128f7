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
    ///
    /// # Examples
    ///
    /// ```
    /// use tercio::explain::{Costs, Question};
    ///
    /// let ways = Question::new("all_reduce", &[0, 1]).explain(&Costs::default()).unwrap();
    /// assert!(ways.iter().any(|way| way.is_chosen));
    /// assert!(Question::new("everything", &[0, 1]).explain(&Costs::default()).is_err());
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use tercio::explain::{Costs, Question};
    ///
    /// let bytes = |n| Question::new("bcast", &[0, 1]).bytes(n).explain(&Costs::default()).unwrap();
    /// assert!(bytes(1000)[0].bytes_between < bytes(2000)[0].bytes_between);
    /// ```
    pub fn bytes(mut self, bytes: usize) -> Question {
        self.bytes = bytes;
        self
    }

    /// The root; 0 if not said.
    ///
    /// # Examples
    ///
    /// ```
    /// use tercio::explain::{Costs, Question};
    ///
    /// let from = |root| Question::new("bcast", &[0, 1]).root(root).explain(&Costs::default());
    /// assert!(from(1).is_ok());
    /// assert!(from(2).is_err());
    /// ```
    pub fn root(mut self, root: usize) -> Question {
        self.root = root;
        self
    }

    /// Whether the order of operands shows in the result, as in sums of floats.
    ///
    /// # Examples
    ///
    /// ```
    /// use tercio::explain::{Costs, Question};
    ///
    /// let question = Question::new("all_reduce", &[0, 1, 0, 1]).ordered(true);
    /// let ways = question.explain(&Costs::default()).unwrap();
    /// // One rank of each host cannot fold for it: the ranks of a host do not follow each other.
    /// assert!(ways.iter().all(|way| way.way != "leaders"));
    /// ```
    pub fn ordered(mut self, is_ordered: bool) -> Question {
        self.is_ordered = is_ordered;
        self
    }

    /// All ways.
    ///
    /// # Errors
    ///
    /// An operation that there is not, no rank or more than 1024, a root that is none of them, more than 1 GiB.
    ///
    /// # Examples
    ///
    /// ```
    /// use tercio::explain::{Costs, Question};
    ///
    /// let ways = Question::new("barrier", &[0, 0, 1, 1]).explain(&Costs::default()).unwrap();
    /// for way in &ways {
    ///     println!("{}: {} ns", way.way, way.time);
    /// }
    /// ```
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
