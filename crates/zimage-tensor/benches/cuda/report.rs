//! The table, and the file with the same numbers.

use crate::Result;
use crate::gauge::{Case, Floor, Gauge, Measured, Peaks};
use serde_json::{Map, Value, json};
use std::path::Path;
use zimage_tensor::Device;

/// What was measured so far.
pub struct Report {
    head: Vec<String>,
    file: Map<String, Value>,
    cases: Vec<Value>,
}

impl Report {
    /// Nothing but the device.
    pub fn new(device: &Device, gauge: &Gauge, is_tiny: bool) -> Report {
        let Peaks { flops, memory } = &gauge.peaks;
        let mut head = vec![format!("{}, {:.0} GB/s", device.describe(), memory / 1e9)];
        head.extend(flops.iter().map(|(compute, flops)| format!("{} {:.1} TFLOP/s", compute.name(), flops / 1e12)));
        let peaks: Map<String, Value> =
            flops.iter().map(|(compute, flops)| (compute.name().into(), json!(flops / 1e12))).collect();
        let mut file = Map::new();
        file.insert("device".into(), device.describe().into());
        file.insert("tiny".into(), is_tiny.into());
        file.insert("peak_tflops".into(), peaks.into());
        file.insert("peak_gbytes_per_s".into(), json!(memory / 1e9));
        Report { head, file, cases: Vec::new() }
    }

    /// Prints the device, and what the columns are.
    pub fn print_head(&self) {
        println!("{}", self.head.join(", "));
        println!(
            "{:<48}{:>7}{:>12}{:>12}{:>8}{:>10}{:>9}{:>11}",
            "operation", "", "us", "floor us", "share", "TFLOP/s", "GB/s", "host us"
        );
    }

    /// Prints a case and keeps it.
    pub fn add(&mut self, case: &Case, measured: Measured) {
        let Measured { seconds, least_seconds, host_seconds, first_seconds, floor_seconds } = measured;
        let (bytes, flop) = match case.floor {
            Floor::Device { bytes, flop } => (bytes, flop),
            Floor::Link { bytes } => (bytes, 0.0),
        };
        let share = floor_seconds.map(|floor| floor / seconds);
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        println!(
            "{:<48}{:>7}{:>12.1}{:>12}{:>8}{:>10}{:>9.0}{:>11.1}",
            case.name,
            case.compute.name(),
            seconds * 1e6,
            or_none(floor_seconds.map(|floor| format!("{:.1}", floor * 1e6))),
            or_none(share.map(|share| format!("{:.0} %", share * 100.0))),
            or_none((flop > 0.0).then(|| format!("{:.1}", flop / seconds / 1e12))),
            bytes / seconds / 1e9,
            host_seconds * 1e6,
        );
        self.cases.push(json!({
            "name": case.name,
            "compute": case.compute.name(),
            "seconds": seconds,
            "least_seconds": least_seconds,
            "host_seconds": host_seconds,
            "first_seconds": first_seconds,
            "floor_seconds": floor_seconds,
            "share": share,
            "bytes": bytes,
            "flop": flop,
        }));
    }

    /// Writes all that was measured.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut file = self.file.clone();
        file.insert("cases".into(), self.cases.clone().into());
        std::fs::write(path, serde_json::to_string_pretty(&Value::Object(file))? + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
    }
}
