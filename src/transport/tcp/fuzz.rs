//! What a stranger, or a faulty peer, may write: the saved corpus, cut at every byte and changed by seed. Set TERCIO_FUZZ to a number of changes for each file to look
//! for longer; what is found belongs into the corpus.
use super::greeting::{Accepting, Dialing, Key, Parties, STRANGER, Told};
use super::inbox::{Inbox, tests::Kept};
use crate::job::spoil::{changes, files, spoil};
use std::net::SocketAddr;

fn corpus(kind: &str) -> Vec<(String, Vec<u8>)> {
    files(&format!("src/transport/tcp/corpus/{kind}"))
}

/// Takes bytes in two portions, as one; both must come to the same.
fn frames(bytes: &[u8], cut: usize) -> (bool, usize) {
    let take = |portions: &[&[u8]]| {
        let (mut inbox, mut kept) = (Inbox::default(), Kept::default());
        let good = portions
            .iter()
            .all(|portion| inbox.take(portion, &mut kept).is_ok());
        (good, kept.0)
    };
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let (whole, parts) = (take(&[bytes]), take(&[first, second]));
    assert_eq!(whole, parts);
    (whole.0, whole.1.len())
}

#[test]
fn frames_of_the_corpus_are_read_or_refused() {
    for (name, bytes) in corpus("frame") {
        let mut good = true;
        for cut in 0..=bytes.len().min(700) {
            good = frames(&bytes, cut).0;
        }
        let bad = [
            "too-long",
            "empty-data",
            "offer-of",
            "kind",
            "room",
            "all-ones",
        ];
        let is_bad = bad.iter().any(|word| name.contains(word)) && name != "source-all-ones";
        assert_eq!(good, !is_bad, "{name}");
        for seed in 0..changes() {
            let mut spoilt = bytes.clone();
            spoil(&mut spoilt, seed);
            frames(&spoilt, seed as usize % 97);
        }
    }
}

fn key(encrypt: bool) -> Key {
    Key {
        secret: [7; 32],
        job: "corpus".into(),
        encrypt,
    }
}

fn at(last: u8, port: u16) -> SocketAddr {
    ([192, 0, 2, last], port).into()
}

/// What an acceptor makes of these bytes in two portions: how often it was told something. It never believes, never takes more than a stranger may have said.
fn greet(encrypt: bool, bytes: &[u8], cut: usize) -> usize {
    let addresses = (at(1, 1), at(2, 2));
    let mut accepting = Accepting::new(&key(encrypt), (0, 8), addresses, [4; 32]);
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let mut told = 0;
    for mut portion in [first, second] {
        while !portion.is_empty() {
            let Ok((what, used)) = accepting.take(portion) else {
                return told;
            };
            assert!(used > 0 && used <= STRANGER);
            portion = &portion[used..];
            match what {
                Some(Told::Proof) => panic!("a stranger was believed"),
                Some(Told::Hello { .. }) => told += 1,
                None => {}
            }
        }
    }
    told
}

#[test]
fn greetings_of_the_corpus_are_heard_or_refused() {
    for (name, bytes) in corpus("handshake") {
        for cut in 0..=bytes.len() {
            let heard = greet(false, &bytes, cut);
            let good = name.starts_with("good-hello") || name.starts_with("hello-and");
            assert_eq!(heard, usize::from(good), "{name}");
            assert_eq!(greet(true, &bytes, cut), 0, "{name}");
        }
        for seed in 0..changes() {
            let mut spoilt = bytes.clone();
            spoil(&mut spoilt, seed);
            greet(seed % 2 == 0, &spoilt, seed as usize % 89);
        }
    }
}

/// A dialer that reaches somebody else is not taken in either.
#[test]
fn answers_of_the_corpus_are_refused() {
    for (_, bytes) in corpus("handshake").into_iter().chain(corpus("frame")) {
        for encrypt in [false, true] {
            let parties = Parties {
                dialer: 2,
                acceptor: 0,
                dialer_at: at(2, 2),
                acceptor_at: at(1, 1),
            };
            let (mut dialing, _) = Dialing::new(&key(encrypt), parties, [9; 32]);
            let mut rest = &bytes[..];
            while let Ok((heard, used)) = dialing.take(rest) {
                assert_eq!(heard, None, "somebody else's answer was believed");
                rest = &rest[used..];
                if rest.is_empty() {
                    break;
                }
            }
        }
    }
}
