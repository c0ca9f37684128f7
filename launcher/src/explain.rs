//! `tercio explain`: the ways in which a collective of several hosts can run, what each comes to, and which one does.
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;
use tercio::explain::{Costs, Question, Way};

use crate::bench::size;
use crate::costs;
use crate::sentence::Sentence;

/// The command line of `tercio explain`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// bcast, reduce, all_reduce, gather, scatter, all_gather, all_to_all, scan, exscan, reduce_scatter_block or barrier
    operation: String,
    /// How many hosts
    #[arg(long, value_name = "N", default_value_t = 2)]
    hosts: usize,
    /// Ranks on each host; a list has a number for each
    #[arg(long, value_name = "N|N,N,...", value_delimiter = ',', default_values_t = [1])]
    ppn: Vec<usize>,
    /// Bytes that a rank gives or gets; K, M and G are powers of 1024
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "8")]
    bytes: usize,
    /// The root
    #[arg(long, value_name = "RANK", default_value_t = 0)]
    root: usize,
    /// Neighbours share a host (slot), or ranks are dealt out in turn (node)
    #[arg(long, value_name = "slot|node", value_parser = ["slot", "node"], default_value = "slot")]
    map_by: String,
    /// The order of operands shows in the result, as in sums of floats
    #[arg(long)]
    ordered: bool,
    /// What messages cost, instead of what `tercio tune` has found
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Explains; the exit code.
pub(crate) fn main(args: Args) -> i32 {
    match explain(&args) {
        Ok(text) => {
            print!("{text}");
            0
        }
        Err(sentence) => {
            eprintln!("tercio: {sentence}");
            sentence.code
        }
    }
}

fn explain(args: &Args) -> Result<String, Sentence> {
    let (costs, from) = match &args.costs {
        Some(file) => (costs::of(file)?, file.display().to_string()),
        None => costs::read()?,
    };
    let hosts = places(args)?;
    let question = Question::new(&args.operation, &hosts)
        .bytes(args.bytes)
        .root(args.root)
        .ordered(args.ordered);
    let ways = question
        .explain(&costs)
        .map_err(|error| Sentence::own(error.to_string()))?;
    Ok(match args.json {
        true => in_json(args, hosts.len(), &ways),
        false => in_words(args, hosts.len(), &costs, &from, &ways),
    })
}

/// The host of each rank.
fn places(args: &Args) -> Result<Vec<u32>, Sentence> {
    let ranks: Vec<usize> = match &args.ppn[..] {
        [all] => vec![*all; args.hosts.min(MOST)],
        list if list.len() == args.hosts => list.to_vec(),
        list => {
            return Err(Sentence::own(format!(
                "--ppn has {} numbers for {} hosts; give one number for all, or one for each",
                list.len(),
                args.hosts
            )));
        }
    };
    let total = ranks.iter().fold(0, |sum: usize, n| sum.saturating_add(*n));
    if args.hosts > MOST || total > MOST {
        return Err(Sentence::own(format!(
            "{} hosts and {total} ranks were asked for; up to {MOST} ranks can be explained",
            args.hosts
        )));
    }
    let mut left = ranks;
    let mut hosts = Vec::new();
    while hosts.len() < total {
        for (host, left) in left.iter_mut().enumerate() {
            let take = if args.map_by == "slot" {
                *left
            } else {
                (*left).min(1)
            };
            hosts.extend(std::iter::repeat_n(host as u32, take));
            *left -= take;
        }
    }
    Ok(hosts)
}

/// The most ranks whose schedules are simulated.
const MOST: usize = 1024;

fn in_json(args: &Args, ranks: usize, ways: &[Way]) -> String {
    let way = |way: &Way| {
        json!({
            "way": way.way,
            "chosen": way.is_chosen,
            "estimate_ns": way.estimate,
            "simulated_ns": way.time,
            "messages_between": way.messages_between,
            "bytes_between": way.bytes_between,
            "link_stress": way.link_stress,
            "delay_penalty_mean": way.delay_penalty.0,
            "delay_penalty_max": way.delay_penalty.1,
            "tree_cost_ns": way.tree_cost,
        })
    };
    let all = json!({
        "operation": args.operation,
        "hosts": args.hosts,
        "ranks": ranks,
        "bytes": args.bytes,
        "ways": ways.iter().map(way).collect::<Vec<_>>(),
    });
    format!("{all}\n")
}

fn in_words(args: &Args, ranks: usize, costs: &Costs, from: &str, ways: &[Way]) -> String {
    let mut text = String::new();
    let micro = |ns: u64| format!("{:.1} us", ns as f64 / 1000.0);
    let _ = writeln!(
        text,
        "{} of {} bytes, {ranks} ranks on {} hosts\nbetween hosts {} and {} ns a KiB ({} for all of a host); inside {} and {} ns a KiB; combining {} ns a KiB ({from})",
        args.operation,
        args.bytes,
        args.hosts,
        micro(costs.between_latency),
        costs.between_kib,
        costs.host_kib,
        micro(costs.inside_latency),
        costs.inside_kib,
        costs.combine_kib,
    );
    let _ = writeln!(
        text,
        "  {:<9} {:>13} {:>13} {:>9} {:>13} {:>7} {:>15} {:>13}",
        "way", "estimate", "simulated", "messages", "bytes", "stress", "delay penalty", "tree cost"
    );
    for way in ways {
        let _ = writeln!(
            text,
            "{} {:<9} {:>13} {:>13} {:>9} {:>13} {:>7} {:>15} {:>13}",
            if way.is_chosen { '*' } else { ' ' },
            way.way,
            micro(way.estimate),
            micro(way.time),
            way.messages_between,
            way.bytes_between,
            way.link_stress,
            format!("{:.2} ({:.2})", way.delay_penalty.0, way.delay_penalty.1),
            micro(way.tree_cost),
        );
    }
    text.push_str(
        "* runs. Messages and bytes: from host to host. Stress: how often the same bytes cross a host's link in one direction. Delay penalty: when a rank is done, beside\none message straight to it: mean (worst). Tree cost: the times of all messages together.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn said(words: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from([&["explain"], words].concat());
        let mut args = line.map_err(|error| error.to_string())?.args;
        // Not what somebody has tuned here.
        args.costs.get_or_insert("/dev/null".into());
        explain(&args).map_err(|sentence| sentence.text)
    }

    #[test]
    fn one_way_is_chosen_and_all_are_shown() {
        let text = said(&["bcast", "--hosts", "4", "--ppn", "8", "--bytes", "1M"]).unwrap();
        assert!(
            text.starts_with("bcast of 1048576 bytes, 32 ranks on 4 hosts\n"),
            "{text}"
        );
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("* ")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for way in ["leaders", "blocks", "lanes", "flat"] {
            assert!(text.contains(&format!(" {way} ")), "{text}");
        }
        let json = said(&[
            "all_reduce",
            "--hosts",
            "3",
            "--ppn",
            "3,1,2",
            "--ordered",
            "--json",
        ]);
        let json: serde_json::Value = serde_json::from_str(&json.unwrap()).unwrap();
        assert_eq!(
            (&json["ranks"], json["ways"].as_array().unwrap().len()),
            (&json!(6), 4)
        );
    }

    #[test]
    fn ranks_are_placed_as_the_launcher_places_them() {
        let of = |map_by| {
            let words = [
                "explain", "bcast", "--hosts", "3", "--ppn", "3,1,2", "--map-by", map_by,
            ];
            places(&Line::try_parse_from(words).unwrap().args).unwrap()
        };
        assert_eq!(of("slot"), [0, 0, 0, 1, 2, 2]);
        assert_eq!(of("node"), [0, 1, 2, 0, 2, 0]);
    }

    #[test]
    fn what_cannot_be_explained_gets_a_sentence() {
        assert!(
            said(&["gossip"])
                .unwrap_err()
                .contains("there is no collective \"gossip\"")
        );
        assert!(
            said(&["bcast", "--hosts", "3", "--ppn", "1,2"])
                .unwrap_err()
                .contains("one for each")
        );
        assert!(
            said(&["bcast", "--hosts", "2000"])
                .unwrap_err()
                .contains("up to 1024")
        );
        assert!(
            said(&["bcast", "--costs", "/nowhere"])
                .unwrap_err()
                .contains("/nowhere")
        );
    }
}
