//! Every example as a job of its own, with its result checked. This test starts itself as the ranks.
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercio::launch::{Job, Output, Program};

macro_rules! examples {
    ($($(#[$when:meta])? $name:ident),*) => {
        $($(#[$when])? mod $name {
            include!(concat!("../examples/", stringify!($name), ".rs"));
            pub fn rank() {
                main()
            }
        })*

        /// Runs the example of that name as a rank.
        fn rank(name: &str) {
            match name {
                $($(#[$when])? stringify!($name) => $name::rank(),)*
                _ => panic!("there is no example {name}"),
            }
        }
    };
}
examples!(
    hello,
    ring,
    pi,
    wordcount,
    heat,
    matmul,
    #[cfg(feature = "serde")]
    queens
);

const EXAMPLE: &str = "TERCIO_TEST_EXAMPLE";

type Test = fn() -> Result<(), Failed>;

fn main() {
    tercio::launch::role();
    if let Ok(name) = std::env::var(EXAMPLE) {
        return rank(&name);
    }
    let tests: &[(&str, Test)] = &[
        (
            "hello_greets_in_the_order_of_the_ranks",
            hello_greets_in_order,
        ),
        ("ring_adds_up_all_ranks", ring_adds_up),
        (
            "pi_has_the_same_digits_for_any_number_of_ranks",
            pi_is_the_same,
        ),
        ("matmul_equals_the_sequential_product", matmul_is_equal),
        (
            "heat_paints_the_same_picture_for_any_number_of_ranks",
            heat_is_the_same,
        ),
        ("wordcount_counts_as_an_independent_count", wordcount_counts),
        ("wordcount_gives_every_rank_a_piece", wordcount_shares),
        (
            "wordcount_ends_with_fewer_words_than_ranks",
            wordcount_of_little,
        ),
        #[cfg(feature = "serde")]
        ("queens_stand_in_as_many_ways_as_is_known", queens_stand),
    ];
    let trials = tests.iter().map(|&(name, test)| Trial::test(name, test));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

/// The standard output of an example; an error if the job failed.
fn run(example: &str, ranks: usize, args: &[&str]) -> Result<String, Failed> {
    let program = Program::new(std::env::current_exe()?, ranks).args(args.iter().copied());
    let job = Job::new().program(program.env(EXAMPLE, example));
    let outcome = job
        .output(Output::Capture { tag: false })
        .timeout(Duration::from_secs(120))
        .run()?;
    if outcome.code != 0 {
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        let verdict = outcome
            .verdict
            .map_or(String::new(), |verdict| verdict.text());
        return Err(format!(
            "{example} on {ranks} ranks: code {}\n{verdict}\n{stderr}",
            outcome.code
        )
        .into());
    }
    Ok(String::from_utf8(outcome.stdout)?)
}

/// The lines that do not depend on how the job ran.
fn results(output: &str) -> String {
    output
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn hello_greets_in_order() -> Result<(), Failed> {
    for ranks in [1, 5] {
        let output = run("hello", ranks, &[])?;
        assert_eq!(output.lines().count(), ranks);
        for (rank, line) in output.lines().enumerate() {
            assert!(
                line.starts_with(&format!("hello from rank {rank} of {ranks} on ")),
                "{output}"
            );
        }
    }
    Ok(())
}

fn ring_adds_up() -> Result<(), Failed> {
    for (ranks, last, sum) in [(1, 0, 0), (2, 1, 1), (7, 6, 21)] {
        let expected = format!("the token came back from rank {last} with {sum}\n");
        assert_eq!(results(&run("ring", ranks, &[])?), expected);
    }
    Ok(())
}

fn pi_is_the_same() -> Result<(), Failed> {
    let alone = results(&run("pi", 1, &["1000001"])?);
    assert!(
        alone.contains("of 1000001 points hit: pi is about 3.14"),
        "{alone}"
    );
    for ranks in [2, 7] {
        assert_eq!(
            results(&run("pi", ranks, &["1000001"])?),
            alone,
            "{ranks} ranks"
        );
    }
    Ok(())
}

fn matmul_is_equal() -> Result<(), Failed> {
    let alone = results(&run("matmul", 1, &["50"])?);
    assert!(
        alone.starts_with("50 x 50: the parallel product equals the sequential one"),
        "{alone}"
    );
    for ranks in [2, 3, 7] {
        assert_eq!(
            results(&run("matmul", ranks, &["50"])?),
            alone,
            "{ranks} ranks"
        );
    }
    Ok(())
}

fn heat_is_the_same() -> Result<(), Failed> {
    let folder = scratch("heat")?;
    let mut pictures = Vec::new();
    for ranks in [1, 2, 5] {
        let path = folder.join(format!("{ranks}.png"));
        let output = run("heat", ranks, &[path.to_str().ok_or("a path in UTF-8")?])?;
        assert!(
            output.contains(&format!("# the picture is in {}", path.display())),
            "{output}"
        );
        let picture = std::fs::read(&path)?;
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
        pictures.push((picture, results(&output)));
    }
    assert!(pictures.iter().all(|picture| *picture == pictures[0]));
    Ok(std::fs::remove_dir_all(folder)?)
}

fn wordcount_counts() -> Result<(), Failed> {
    let folder = scratch("wordcount")?;
    let files = [
        folder.join("words"),
        folder.join("one line"),
        folder.join("nothing"),
    ];
    std::fs::write(&files[0], some_text())?;
    std::fs::write(
        &files[1],
        "Straße STRASSE \u{FF}x\u{301} no-white-space-"
            .repeat(2000)
            .replace(' ', "_"),
    )?;
    std::fs::write(&files[2], "")?;
    let names: Vec<&str> = files
        .iter()
        .map(|file| file.to_str().ok_or("a path in UTF-8"))
        .collect::<Result<_, _>>()?;

    let independent = count_by_characters(&files)?;
    for ranks in [1, 2, 7, 32] {
        assert_eq!(
            results(&run("wordcount", ranks, &names)?),
            independent,
            "{ranks} ranks"
        );
    }
    let sequential = [&["--sequential"], &names[..]].concat();
    assert_eq!(results(&run("wordcount", 1, &sequential)?), independent);
    Ok(std::fs::remove_dir_all(folder)?)
}

fn wordcount_shares() -> Result<(), Failed> {
    // Without files: this project's own sources.
    let alone = results(&run("wordcount", 1, &["--sequential"])?);
    for ranks in [3, 32] {
        let output = run("wordcount", ranks, &[])?;
        assert_eq!(results(&output), alone, "{ranks} ranks");
        let shares = output
            .lines()
            .filter_map(|line| line.strip_prefix("# rank ")?.split_once(" counted "));
        let shares: Vec<&str> = shares.map(|(_, share)| share).collect();
        assert_eq!(shares.len(), ranks, "{output}");
        assert!(!shares.contains(&"0 pieces"), "{output}");
    }
    Ok(())
}

fn wordcount_of_little() -> Result<(), Failed> {
    let folder = scratch("little")?;
    let file = folder.join("little");
    std::fs::write(&file, "one two One")?;
    let output = run("wordcount", 4, &[file.to_str().ok_or("a path in UTF-8")?])?;
    assert_eq!(
        results(&output),
        "3 words, 2 different\n       2 one\n       1 two\n"
    );
    Ok(std::fs::remove_dir_all(folder)?)
}

#[cfg(feature = "serde")]
fn queens_stand() -> Result<(), Failed> {
    for (size, ways) in [("3", 0), ("1", 1), ("8", 92), ("9", 352)] {
        let alone = results(&run("queens", 1, &[size])?);
        assert!(
            alone.starts_with(&format!("{size} queens stand in {ways} ways")),
            "{alone}"
        );
        for ranks in [2, 5] {
            let output = run("queens", ranks, &[size])?;
            assert_eq!(results(&output), alone, "{ranks} ranks");
            assert_eq!(output.matches("# rank ").count(), ranks, "{output}");
        }
    }
    Ok(())
}

/// A folder of this test alone.
fn scratch(name: &str) -> std::io::Result<PathBuf> {
    let folder =
        std::env::temp_dir().join(format!("tercio-examples-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Words of several scripts in lines of different lengths; many of them equally frequent.
fn some_text() -> String {
    let words = [
        "rank",
        "Rank",
        "LANE",
        "größe",
        "ΣΊΣΥΦΟΣ",
        "число",
        "第一",
        "x1",
        "don't",
        "a",
    ];
    let mut text = String::new();
    let mut state = 7_u32;
    for i in 0..60_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = words[(state >> 16) as usize % words.len()];
        let _ = match state >> 29 {
            0 => writeln!(text, "{word}{}.", i % 50),
            1 => write!(text, "({word})\t"),
            _ => write!(text, "{word} "),
        };
    }
    text
}

/// The example's result, found in another way: character by character over all text at once.
fn count_by_characters(files: &[impl AsRef<Path>]) -> std::io::Result<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        let mut word = String::new();
        for character in String::from_utf8_lossy(&std::fs::read(file)?)
            .chars()
            .chain([' '])
        {
            if character.is_alphanumeric() {
                word.push(character);
            } else if !word.is_empty() {
                *counts.entry(word.to_lowercase()).or_default() += 1;
                word.clear();
            }
        }
    }
    let mut text = format!(
        "{} words, {} different\n",
        counts.values().sum::<u64>(),
        counts.len()
    );
    let mut sorted: Vec<(u64, String)> = counts
        .into_iter()
        .map(|(word, count)| (count, word))
        .collect();
    // By word already; a stable sort keeps that for equal counts.
    sorted.sort_by_key(|(count, _)| u64::MAX - count);
    for (count, word) in sorted.iter().take(20) {
        let _ = writeln!(text, "{count:8} {word}");
    }
    Ok(text)
}
