//! What the launcher says when it cannot do as it was told: one sentence, and the exit code that goes with it.
use std::fmt;

/// A sentence for the user that ends the launcher.
#[derive(Debug)]
pub(crate) struct Sentence {
    pub text: String,
    pub code: i32,
}

impl Sentence {
    /// The launcher's own failure (exit code 125).
    pub(crate) fn own(text: impl Into<String>) -> Sentence {
        Sentence {
            text: text.into(),
            code: 125,
        }
    }

    /// A command line that cannot be understood (exit code 125, as `env` and `timeout` do).
    pub(crate) fn usage(text: impl Into<String>) -> Sentence {
        Sentence::own(text.into() + "\n(all options: tercio run --help)")
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
