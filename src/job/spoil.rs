//! For tests of what reads bytes from elsewhere: saved files, and ways to spoil them.

/// The files of a folder of this package, with their names.
pub(crate) fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
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

/// How many spoilt copies of each file are tried: `TERCIO_FUZZ`, or what a test has time for.
pub(crate) fn changes() -> u64 {
    let told = std::env::var("TERCIO_FUZZ").ok();
    told.and_then(|text| text.parse().ok())
        .unwrap_or(if cfg!(miri) { 3 } else { 500 })
}

/// One of the ways to spoil bytes: another bit, byte or length, a part twice, or strange numbers.
pub(crate) fn spoil(bytes: &mut Vec<u8>, seed: u64) {
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
