//! `kiln devices`: lists the devices of this machine.

use super::table::{Align, Table};
use crate::{
    device::{self, DeviceInfo},
    error::Error,
    kernels::peak::measure_peak,
};
use serde::Serialize;

#[derive(Debug, clap::Args)]
pub struct DevicesArguments {
    /// Measure the peak of f32 matrix products; software adapters are left out
    #[arg(long)]
    measure: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    info: DeviceInfo,
    dtypes: Vec<&'static str>,
    /// True for the device that `--device auto` chooses.
    auto: bool,
    peak_flops: Option<f64>,
}

pub(super) fn run(arguments: DevicesArguments) -> anyhow::Result<()> {
    let auto = device::Choice::auto();
    let mut rows = Vec::new();
    for info in device::list() {
        let mut row = Row { auto: *info.choice() == auto, dtypes: Vec::new(), peak_flops: None, info };
        match row.info.choice().open() {
            Ok(opened) => {
                row.dtypes = device::dtypes(&opened);
                if arguments.measure && !row.info.software {
                    match pollster::block_on(measure_peak(&opened, 1.0)) {
                        Ok(peak) => row.peak_flops = Some(peak),
                        Err(error) => row.info.problem = Some(error.to_string()),
                    }
                }
            }
            Err(Error::DeviceUnavailable { reason, .. }) => row.info.problem = Some(reason),
            Err(error) => return Err(error.into()),
        }
        rows.push(row);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let mut table = Table::new([
        ("device", Align::Left),
        ("", Align::Left),
        ("memory", Align::Right),
        ("dtypes", Align::Left),
        ("instructions", Align::Left),
        ("f32 peak", Align::Right),
        ("", Align::Left),
    ]);
    let problems: Vec<_> =
        rows.iter().filter_map(|row| Some((row.info.name.clone(), row.info.problem.clone()?))).collect();
    for row in rows {
        let memory =
            row.info.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64));
        let note = match (row.auto, row.info.software) {
            (true, _) => "auto",
            (_, true) => "software",
            _ => "",
        };
        table.row([
            row.info.name,
            row.info.description,
            memory.unwrap_or_else(|| "?".into()),
            row.dtypes.join(" "),
            row.info.instruction_set.unwrap_or_default().into(),
            row.peak_flops.map_or_else(String::new, |peak| format!("{:.1} GFLOP/s", peak / 1e9)),
            note.into(),
        ]);
    }
    print!("{table}");
    for (name, problem) in problems {
        println!("\n{name} cannot be used: {problem}");
    }
    Ok(())
}
