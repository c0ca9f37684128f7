//! What failed first, in words for people and for programs.

/// The first failure of a job: which rank, on which host, why, and what it did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    text: String,
    json: String,
}

impl Verdict {
    /// At most twelve lines for a terminal, the last one ended too.
    pub fn text(&self) -> String {
        self.text.clone()
    }

    /// The same as one JSON object on one line.
    pub fn json(&self) -> String {
        self.json.clone()
    }
}
