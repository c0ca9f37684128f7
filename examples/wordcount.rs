// Counts the words of files on all ranks, and prints the most frequent ones.
//
//     cargo run --release -- run -n 4 --example wordcount -- FILE...
//
// Rank 0 reads the files and hands them out piece by piece to whoever is free; it counts pieces itself as well. Then the
// counts are reduced by word along a tree of ranks. Lines that begin with # tell how it went; all others are the same for
// any number of ranks, and for `--sequential`, which counts the files without sending anything. Without files it counts
// the sources of this project.
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};
use tercio::{topology::SimpleCommunicator, traits::*};

type Counts = HashMap<String, u64>;

/// Tags tell apart what a message is about.
const PIECE: i32 = 1;
const FREE: i32 = 2;
const COUNTS: i32 = 3;
const TOP: usize = 20;

fn main() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let start = tercio::time();

    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let sequential = words.first().is_some_and(|word| word == "--sequential");
    if sequential {
        words.remove(0);
        if world.rank() == 0 {
            let mut counts = Counts::new();
            for file in files(words) {
                count(
                    &fs::read(&file)
                        .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display())),
                    &mut counts,
                );
            }
            print(&counts);
            println!("# counted sequentially, {:.3} s", tercio::time() - start);
        }
        return;
    }

    let mut counts = Counts::new();
    let my_pieces = if world.rank() == 0 {
        let files = files(words);
        hand_out(&world, Pieces::new(files, world.size()), &mut counts)
    } else {
        count_what_comes(&world, &mut counts)
    };
    reduce(&world, &mut counts);

    // How many pieces each rank counted.
    let root = world.process_at_rank(0);
    if world.rank() == 0 {
        let mut shares = vec![0_u64; world.size() as usize];
        root.gather_into_root(&my_pieces, &mut shares[..]);
        print(&counts);
        println!(
            "# {} ranks, {} pieces, {:.3} s",
            world.size(),
            shares.iter().sum::<u64>(),
            tercio::time() - start
        );
        for (rank, share) in shares.iter().enumerate() {
            println!("# rank {rank} counted {share} pieces");
        }
    } else {
        root.gather_into(&my_pieces);
    }
}

/// Rank 0: gives each rank one piece, then whoever is free the next. Returns how many it counted itself.
fn hand_out(world: &SimpleCommunicator, mut pieces: Pieces, counts: &mut Counts) -> u64 {
    let (mut own, mut busy) = (0, 0);
    for worker in 1..world.size() {
        // A rank for which there is nothing left gets an empty piece: there is no more to do.
        let piece = pieces.next().unwrap_or_default();
        world
            .process_at_rank(worker)
            .send_with_tag(&piece[..], PIECE);
        busy += usize::from(!piece.is_empty());
    }
    for piece in pieces {
        // Is anybody free? If not, rank 0 counts the piece.
        if own > 0 && world.any_process().immediate_probe_with_tag(FREE).is_some() {
            next_free(world).send_with_tag(&piece[..], PIECE);
        } else {
            count(&piece, counts);
            own += 1;
        }
    }
    // Everyone who got work asks once more, and learns that there is none.
    for _ in 0..busy {
        next_free(world).send_with_tag(&[0_u8; 0][..], PIECE);
    }
    own
}

/// The rank that asked for work first.
fn next_free(world: &SimpleCommunicator) -> tercio::topology::Process<'_> {
    let mut nothing = [0_u8; 0];
    let status = world
        .any_process()
        .receive_into_with_tag(&mut nothing[..], FREE);
    world.process_at_rank(status.source_rank())
}

/// Every other rank: counts pieces until an empty one comes. Returns how many there were.
fn count_what_comes(world: &SimpleCommunicator, counts: &mut Counts) -> u64 {
    let root = world.process_at_rank(0);
    for pieces in 0.. {
        let (piece, _status) = root.receive_vec_with_tag::<u8>(PIECE);
        if piece.is_empty() {
            return pieces;
        }
        count(&piece, counts);
        root.send_with_tag(&[0_u8; 0][..], FREE);
    }
    unreachable!("the loop has no end but the one above")
}

/// Adds up all ranks' counts by word: in each round half of the ranks send theirs to a partner and are done, until rank 0
/// has everything.
fn reduce(world: &SimpleCommunicator, counts: &mut Counts) {
    let (rank, size) = (world.rank(), world.size());
    let mut distance = 1;
    while distance < size {
        if rank & distance != 0 {
            let lines: String = counts
                .iter()
                .map(|(word, count)| format!("{word} {count}\n"))
                .collect();
            world
                .process_at_rank(rank - distance)
                .send_with_tag(lines.as_bytes(), COUNTS);
            return;
        }
        if rank + distance < size {
            let (lines, _status) = world
                .process_at_rank(rank + distance)
                .receive_vec_with_tag::<u8>(COUNTS);
            for line in std::str::from_utf8(&lines).unwrap().lines() {
                let (word, count) = line.split_once(' ').unwrap();
                *counts.entry(word.to_owned()).or_default() += count.parse::<u64>().unwrap();
            }
        }
        distance *= 2;
    }
}

/// A word is a run of letters and digits; capitals do not matter.
fn count(text: &[u8], counts: &mut Counts) {
    for word in String::from_utf8_lossy(text)
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
}

fn print(counts: &Counts) {
    println!(
        "{} words, {} different",
        counts.values().sum::<u64>(),
        counts.len()
    );
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|(a, m), (b, n)| n.cmp(m).then(a.cmp(b)));
    for (word, count) in sorted.into_iter().take(TOP) {
        println!("{count:8} {word}");
    }
}

/// Cuts files into pieces that end where a word ends, reading on only when the next piece is asked for.
struct Pieces {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<BufReader<File>>,
    size: u64,
}

impl Pieces {
    /// Small enough that every rank gets several, and that they are counted at about the same time.
    fn new(files: Vec<PathBuf>, ranks: i32) -> Pieces {
        let total: u64 = files
            .iter()
            .filter_map(|file| fs::metadata(file).ok())
            .map(|about| about.len())
            .sum();
        let size = (total / (8 * ranks as u64)).clamp(256, 64 * 1024);
        Pieces {
            files: files.into_iter(),
            open: None,
            size,
        }
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let Some(file) = &mut self.open else {
                let path = self.files.next()?;
                let file = File::open(&path)
                    .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
                self.open = Some(BufReader::new(file));
                continue;
            };
            let mut piece = Vec::new();
            file.by_ref()
                .take(self.size)
                .read_to_end(&mut piece)
                .expect("the file can be read");
            // A word goes on to the next white space.
            while piece.last().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                let rest = file.fill_buf().expect("the file can be read");
                let Some(&byte) = rest.first() else { break };
                piece.push(byte);
                file.consume(1);
            }
            if !piece.is_empty() {
                return Some(piece);
            }
            self.open = None;
        }
    }
}

/// The files on the command line, or this project's sources.
fn files(words: Vec<String>) -> Vec<PathBuf> {
    if !words.is_empty() {
        return words.into_iter().map(PathBuf::from).collect();
    }
    let mut sources = Vec::new();
    for folder in ["src", "examples", "derive/src", "launcher/src"] {
        add_sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &mut sources,
        );
    }
    sources.sort();
    sources
}

fn add_sources(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            add_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}
