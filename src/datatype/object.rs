//! Objects in messages: values of any type that serde can serialize, as bytes.
//!
//! An object is the name of its type and then its value, both in postcard's format (<https://postcard.jamesmunns.com/wire-format>). That
//! format is documented and stable, compact, kept up, and gives back every value that it took, also where the self-describing ones do not
//! (`Some(None)` in MessagePack and CBOR is `None`); bincode, which is like it, is given up by its authors. What it lacks, a word on what the
//! bytes are, the name is for: bytes of one type would else be read as another, as often as not without an error.
use crate::model::{Error, ErrorClass};
use core::any::type_name;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of `object`.
pub(crate) fn encode<T: ?Sized + Serialize>(call: &str, object: &T) -> Result<Vec<u8>, Error> {
    let name = plain(type_name::<T>());
    let named = postcard::to_allocvec(&name);
    named
        .and_then(|bytes| postcard::to_extend(object, bytes))
        .map_err(|error| {
            let text = format!(
                "{call} was given a {name} that cannot be serialized ({error}); its Serialize must give lengths beforehand and no error"
            );
            Error::new(ErrorClass::Object, text)
        })
}

/// The object in `bytes`, which came from `rank`.
pub(crate) fn decode<T: DeserializeOwned>(call: &str, bytes: &[u8], rank: i32) -> Result<T, Error> {
    let refuse = |class, text| {
        let error = Error::new(class, text);
        Err(error.about(Some(rank), None, Some(bytes.len())))
    };
    let (len, wanted) = (bytes.len(), plain(type_name::<T>()));
    let Ok((name, value)) = postcard::take_from_bytes::<&str>(bytes) else {
        let text = format!(
            "{call} was asked for a {wanted}, but the {len} bytes from rank {rank} are no object; receive them as what was sent"
        );
        return refuse(ErrorClass::Object, text);
    };
    if name != wanted {
        let name: String = name
            .chars()
            .take(100)
            .flat_map(char::escape_debug)
            .collect();
        let text = format!(
            "{call} was asked for a {wanted}, but rank {rank} sent a {name}; receive the type that was sent"
        );
        return refuse(ErrorClass::Type, text);
    }
    let why = match postcard::take_from_bytes(value) {
        Ok((object, [])) => return Ok(object),
        Ok((_, left)) => format!("{} bytes are left over", left.len()),
        Err(error) => error.to_string(),
    };
    let text = format!(
        "{call} was asked for a {wanted}, and the {len} bytes from rank {rank} say that they are one, but they cannot be read as one ({why}); \
         are both ranks' programs of one version?"
    );
    refuse(ErrorClass::Object, text)
}

/// The name of a type without what makes no difference to its bytes: paths (a program's `Point` may be another program's), references, lifetimes
/// and boxes, whether text and slices are owned, and the two names of integers of one size.
fn plain(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    // What stands for each `>` that is to come.
    let mut closing = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("'_, ") {
            rest = behind;
            continue;
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if len == 0 {
            rest = &rest[first.len_utf8()..];
            match first {
                '&' => rest = rest.trim_start_matches("mut "),
                '<' => {
                    closing.push(">");
                    out.push('<');
                }
                '>' => out.push_str(closing.pop().unwrap_or(">")),
                other => out.push(other),
            }
            continue;
        }
        let word = rest[..len].rsplit("::").next().unwrap_or_default();
        let generic = rest[len..].starts_with('<');
        rest = &rest
            [len + usize::from(generic && matches!(word, "Vec" | "Box" | "Rc" | "Arc" | "Cow"))..];
        match word {
            "Vec" if generic => {
                out.push('[');
                closing.push("]");
            }
            "Box" | "Rc" | "Arc" | "Cow" if generic => closing.push(""),
            "String" => out.push_str("str"),
            "usize" => out.push_str("u64"),
            "isize" => out.push_str("i64"),
            word => out.push_str(word),
        }
    }
    out
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    fn name<T: ?Sized>() -> String {
        plain(type_name::<T>())
    }

    #[test]
    fn names_tell_what_makes_a_difference() {
        struct Point<T>(T);
        assert_eq!(name::<&str>(), name::<String>());
        assert_eq!(name::<&mut Box<[u8]>>(), "[u8]");
        assert_eq!(name::<Vec<Option<Vec<&[usize]>>>>(), "[Option<[[u64]]>]");
        assert_eq!(name::<Cow<'_, str>>(), "str");
        assert_eq!(name::<(i32, [isize; 3])>(), "(i32, [i64; 3])");
        assert_eq!(
            name::<Point<BTreeMap<&str, Vec<f64>>>>(),
            "Point<BTreeMap<str, [f64]>>"
        );
        assert_eq!(name::<fn(Vec<u8>) -> u8>(), "fn([u8]) -> u8");
        assert_eq!(plain(">>a::"), ">>");
        assert_ne!(name::<Option<u32>>(), name::<u32>());
    }

    #[test]
    fn what_is_no_object_is_told() {
        let told = |bytes: &[u8]| {
            let error = decode::<(u16, String)>("receive_object", bytes, 3).unwrap_err();
            assert_eq!((error.peer(), error.size()), (Some(3), Some(bytes.len())));
            (error.class(), error.text().to_string())
        };
        let bytes = encode("send_object", &(7_u16, "seven")).unwrap();
        assert_eq!(
            decode::<(u16, String)>("", &bytes, 3).unwrap(),
            (7, "seven".into())
        );
        for short in 0..bytes.len() {
            assert_eq!(told(&bytes[..short]).0, ErrorClass::Object, "{short}");
        }
        let (class, text) = told(&[&bytes[..], &[0]].concat());
        assert_eq!(class, ErrorClass::Object);
        assert!(text.contains("1 bytes are left over"), "{text}");
        let (class, text) = told(&encode("send_object", &(7_u32, "seven")).unwrap());
        assert_eq!(class, ErrorClass::Type);
        assert!(
            text.contains("asked for a (u16, str), but rank 3 sent a (u32, str)"),
            "{text}"
        );
        assert_eq!(told(&[200, 1, 2]).0, ErrorClass::Object);
    }

    /// Lengths that bytes only claim reserve no memory: reading ends where the bytes do.
    #[test]
    fn a_length_without_its_bytes_is_told_at_once() {
        fn refused<T: DeserializeOwned>() {
            let named = postcard::to_allocvec(&name::<T>()).unwrap();
            for claimed in [u64::MAX, 1 << 40, 1000] {
                let claimed = postcard::to_allocvec(&claimed).unwrap();
                let bytes = [&named[..], &claimed, b"little"].concat();
                let error = decode::<T>("receive_object", &bytes, 0).err().unwrap();
                assert_eq!(error.class(), ErrorClass::Object);
            }
        }
        refused::<String>();
        refused::<Vec<u8>>();
        refused::<Vec<[u64; 32]>>();
        refused::<BTreeMap<u64, String>>();
        refused::<std::collections::HashMap<String, Vec<u64>>>();
    }

    proptest! {
        /// Bytes of any kind are an object or an error.
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>, value: (Vec<Option<String>>, i64)) {
            let named = postcard::to_allocvec(&name::<(Vec<Option<String>>, i64)>()).unwrap();
            let _ = decode::<(Vec<Option<String>>, i64)>("", &[named, bytes.clone()].concat(), 0);
            let _ = decode::<(Vec<Option<String>>, i64)>("", &bytes, 0);
            let whole = encode("", &value).unwrap();
            prop_assert_eq!(decode::<(Vec<Option<String>>, i64)>("", &whole, 0).unwrap(), value);
        }
    }
}
