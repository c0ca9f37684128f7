//! What a benchmark found, as a table for people and as JSON for programs.
use std::fmt::Write;

/// What the two cores can do, once for the whole run. Nothing where it does not apply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    pub core_to_core_ns: Option<f64>,
    pub memcpy_gbps: Option<f64>,
    pub wake_ns: Option<f64>,
    pub way: Way,
}

/// What messages went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    #[default]
    Memory,
    Sockets,
    /// The system's MPI.
    Mpi,
}

/// Where the two cores sat while a row was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    Near,
    Far,
    /// They moved too often for enough samples of one kind.
    Mixed,
}

impl Placement {
    /// What the half round trips of a cache line before and after a sample say of it: they agree, or the cores moved.
    pub fn of(before: f64, after: f64) -> Placement {
        match (before.min(after), before.max(after)) {
            (low, high) if high > 1.5 * low => Placement::Mixed,
            (_, high) if high < 130.0 => Placement::Near,
            (low, _) if low > 200.0 => Placement::Far,
            _ => Placement::Mixed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Placement::Near => "near",
            Placement::Far => "far",
            Placement::Mixed => "mixed",
        }
    }
}

/// One size of one operation. Times are those of one message or one operation, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    pub bytes: Option<usize>,
    pub p50_ns: f64,
    pub p99_ns: Option<f64>,
    pub gbps: Option<f64>,
    pub msg_per_s: Option<f64>,
    /// The limit in ns, for the same unit of work as `p50_ns`.
    pub limit: Option<f64>,
    pub placement: Option<Placement>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.limit
            .filter(|&limit| limit > 0.0)
            .map(|limit| self.p50_ns / limit)
    }
}

/// The document that `--json` prints, on one line.
pub fn json(op: &str, ranks: usize, machine: &Machine, rows: &[Row]) -> String {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "bytes": row.bytes,
                "p50_ns": rounded(Some(row.p50_ns)),
                "p99_ns": rounded(row.p99_ns),
                "gbps": rounded(row.gbps),
                "msg_per_s": row.msg_per_s.map(f64::round),
                "limit": rounded(row.limit),
                "ratio": rounded(row.ratio()),
                "placement": row.placement.map(Placement::name),
            })
        })
        .collect();
    serde_json::json!({
        "op": op,
        "ranks": ranks,
        "transport": match machine.way {
            Way::Memory => "shm",
            Way::Sockets => "tcp",
            Way::Mpi => "mpi",
        },
        "probe": {
            "core_to_core_ns": rounded(machine.core_to_core_ns),
            "memcpy_gbps": rounded(machine.memcpy_gbps),
            "wake_ns": rounded(machine.wake_ns),
        },
        "rows": rows,
    })
    .to_string()
}

/// Three decimals are more than a clock can tell.
fn rounded(value: Option<f64>) -> Option<f64> {
    value
        .filter(|value| value.is_finite())
        .map(|value| (value * 1000.0).round() / 1000.0)
}

/// The lines above the table.
pub fn heading(op: &str, ranks: usize, machine: &Machine) -> String {
    let way = match machine.way {
        Way::Memory => "shared memory",
        Way::Sockets => "sockets",
        Way::Mpi => "the system's MPI",
    };
    let mut text = format!("# {op}, {ranks} ranks, {way}");
    if let Some(ns) = machine.core_to_core_ns {
        let _ = write!(text, "; core to core {}", time(ns));
    }
    if let Some(gbps) = machine.memcpy_gbps {
        let _ = write!(text, ", memcpy {gbps:.1} GB/s");
    }
    if let Some(ns) = machine.wake_ns {
        let _ = write!(text, ", wake {}", time(ns));
    }
    let titles = [
        "bytes",
        "p50",
        "p99",
        "GB/s",
        "messages/s",
        "limit",
        "ratio",
    ]
    .map(|title| format!("{title:>12}"));
    format!("{text}\n{}  placement", titles.concat())
}

/// One line of the table.
pub fn line(row: &Row) -> String {
    let cells = [
        row.bytes.map(|bytes| bytes.to_string()),
        Some(time(row.p50_ns)),
        row.p99_ns.map(time),
        row.gbps.map(|gbps| format!("{gbps:.2}")),
        row.msg_per_s.map(|rate| format!("{rate:.0}")),
        row.limit.map(time),
        row.ratio().map(|ratio| format!("{ratio:.2}")),
    ];
    let cells = cells.map(|cell| format!("{:>12}", cell.as_deref().unwrap_or("-")));
    format!(
        "{}  {}",
        cells.concat(),
        row.placement.map_or("-", Placement::name)
    )
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} us", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// The value below which this share of the samples lies.
pub fn percentile(samples: &mut [f64], share: f64) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().checked_sub(1)?;
    Some(samples[(last as f64 * share).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_null_for_what_does_not_apply() {
        let machine = Machine {
            core_to_core_ns: Some(61.0),
            memcpy_gbps: None,
            wake_ns: Some(26_000.0),
            way: Way::Memory,
        };
        let latency = Row {
            bytes: Some(8),
            p50_ns: 90.0,
            p99_ns: Some(120.5),
            gbps: Some(0.088_888),
            msg_per_s: Some(11_111_111.1),
            limit: Some(60.0),
            placement: Some(Placement::Near),
        };
        let barrier = Row {
            p50_ns: 100.0,
            ..Row::default()
        };
        assert_eq!(
            json("latency", 2, &machine, &[latency, barrier]),
            concat!(
                r#"{"op":"latency","probe":{"core_to_core_ns":61.0,"memcpy_gbps":null,"wake_ns":26000.0},"ranks":2,"#,
                r#""rows":[{"bytes":8,"gbps":0.089,"limit":60.0,"msg_per_s":11111111.0,"p50_ns":90.0,"p99_ns":120.5,"#,
                r#""placement":"near","ratio":1.5},{"bytes":null,"gbps":null,"limit":null,"msg_per_s":null,"#,
                r#""p50_ns":100.0,"p99_ns":null,"placement":null,"ratio":null}],"transport":"shm"}"#
            )
        );
    }

    #[test]
    fn percentiles_of_few_samples() {
        assert_eq!(percentile(&mut [], 0.5), None);
        assert_eq!(percentile(&mut [3.0], 0.99), Some(3.0));
        assert_eq!(percentile(&mut [5.0, 1.0, 3.0], 0.5), Some(3.0));
    }

    #[test]
    fn a_sample_between_two_placements_is_mixed() {
        assert_eq!(Placement::of(60.0, 70.0), Placement::Near);
        assert_eq!(Placement::of(280.0, 250.0), Placement::Far);
        assert_eq!(Placement::of(60.0, 280.0), Placement::Mixed);
        assert_eq!(Placement::of(25.0, 65.0), Placement::Mixed);
    }
}
