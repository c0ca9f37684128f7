//! What a stranger, or a faulty peer, may write: the saved corpus, cut at every byte and changed by seed. Set TERCIO_FUZZ to a number of changes for each file to look
//! for longer; what is found belongs into the corpus.
use super::greeting::{Accepting, Dialing, Key, Parties, STRANGER, Told};
use super::inbox::{Inbox, tests::Kept};
use std::net::SocketAddr;

fn corpus(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!(
        "{}/src/transport/tcp/corpus/{kind}",
        env!("CARGO_MANIFEST_DIR")
    );
    let files = std::fs::read_dir(folder).expect("the corpus");
    let read = |path: std::path::PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (name, std::fs::read(path).expect("a file of the corpus"))
    };
    let mut all: Vec<_> = files
        .map(|entry| read(entry.expect("a file").path()))
        .collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

fn changes() -> u64 {
    let told = std::env::var("TERCIO_FUZZ").ok();
    told.and_then(|text| text.parse().ok())
        .unwrap_or(if cfg!(miri) { 3 } else { 500 })
}

/// One of the ways to spoil bytes: another bit, byte or length, a part twice, or strange numbers.
fn spoil(bytes: &mut Vec<u8>, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    for _ in 0..1 + next(3) {
        let at = next(bytes.len());
        match next(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << next(8),
            1 if at < bytes.len() => bytes[at] = next(256) as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + next(64)).min(bytes.len());
                let part = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ if at + 4 <= bytes.len() => {
                let odd = [0, 1, u32::MAX, 1 << 19, (1 << 19) + 1, 1 << 22, 1 << 31][next(7)];
                bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(odd));
            }
            _ => {}
        }
    }
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
