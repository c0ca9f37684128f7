//! The API as programs see it, on ranks that are threads: what works, and what is said where it cannot.
mod face {
    mod counts;
    mod datatypes;
    mod errors;
    mod limits;
    mod names;
    #[cfg(feature = "serde")]
    mod objects;
    mod own;
    mod requests;
    mod sentences;
    mod sequences;
    mod threads;
    mod values;
}
