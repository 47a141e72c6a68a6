//! Where to compute: what `--device` says, and what is there.

use std::str::FromStr;
use std::thread;

use zimage::Device;
use zimage::pipeline::plan::Budget;

use crate::args::{DeviceArgs, MachineArgs, MemorySize};
use crate::env::{Config, available_memory};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::request::parsed;

const MAX_THREADS: usize = 1024;

/// A device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that works, else the CPU.
    Auto,
    Cpu,
    /// The GPU with this number, by CUDA.
    Cuda(usize),
    /// Apple's GPU, by MLX.
    Mlx,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" | "mlx" => Ok(Self::Mlx),
            _ => {
                let ordinal = text.strip_prefix("cuda:").and_then(|index| index.parse::<u16>().ok());
                ordinal
                    .map(|ordinal| Self::Cuda(ordinal.into()))
                    .ok_or("expected auto, cpu, cuda, cuda:N, metal or mlx".into())
            }
        }
    }
}

/// One device, or several with a comma between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceChoices(pub Vec<DeviceChoice>);

impl FromStr for DeviceChoices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let choices: Vec<DeviceChoice> = text.split(',').map(|one| one.trim().parse()).collect::<Result<_, _>>()?;
        let twice = choices.iter().enumerate().any(|(i, choice)| choices[..i].contains(choice));
        if twice {
            return Err("a device was named twice".into());
        }
        Ok(Self(choices))
    }
}

/// The device of a command that computes on one.
pub fn one(args: &DeviceArgs, config: &Config, progress: &Progress) -> Result<Device, Failure> {
    match &asked(args, config)?[..] {
        [choice] => open(*choice, args, config, progress),
        _ => Err(Failure::usage("a picture is made on one device")
            .with_hint("give one device; `zimage serve` takes several, each of which makes pictures of its own")),
    }
}

/// The devices of a command that computes on any number of them.
pub fn all(args: &DeviceArgs, config: &Config, progress: &Progress) -> Result<Vec<Device>, Failure> {
    asked(args, config)?.into_iter().map(|choice| open(choice, args, config, progress)).collect()
}

fn asked(args: &DeviceArgs, config: &Config) -> Result<Vec<DeviceChoice>, Failure> {
    let choices = args.device.clone().map(Ok).or(parsed("device", &config.device)).transpose()?;
    Ok(choices.map_or_else(|| vec![DeviceChoice::Auto], |DeviceChoices(choices)| choices))
}

fn open(choice: DeviceChoice, args: &DeviceArgs, config: &Config, progress: &Progress) -> Result<Device, Failure> {
    let cpu = || -> Result<Device, Failure> {
        let count = threads(args.threads.map(usize::from).or(config.threads))?;
        Ok(Device::cpu(count).map_err(zimage::Error::from)?)
    };
    match choice {
        DeviceChoice::Auto => match best(progress) {
            Some(device) => Ok(device),
            None => cpu(),
        },
        DeviceChoice::Cpu => cpu(),
        DeviceChoice::Cuda(ordinal) => Device::cuda(ordinal).map_err(Failure::device),
        DeviceChoice::Mlx => Device::mlx().map_err(Failure::device),
    }
}

/// The first GPU that works. One that is there and cannot be used is worth a word, since its owner expects it.
fn best(progress: &Progress) -> Option<Device> {
    if let Ok(device) = Device::mlx() {
        return Some(device);
    }
    let found = Device::cuda_devices().unwrap_or_default();
    let first = found.first()?;
    match Device::cuda(first.ordinal) {
        Ok(device) => Some(device),
        Err(error) => {
            progress.note(&format!("note: {} is not used: {error}", first.name));
            None
        }
    }
}

/// How many threads to use: as many as asked for, else one per core.
pub fn threads(asked: Option<usize>) -> Result<usize, Failure> {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = asked.unwrap_or_else(cores);
    if !(1..=MAX_THREADS).contains(&threads) {
        return Err(Failure::usage(format!("{threads} threads cannot be used"))
            .with_hint(format!("use 1 to {MAX_THREADS}, or leave --threads out for all cores")));
    }
    Ok(threads)
}

/// The memory that a picture may take: what was asked for, else what the device has of its own, or the machine.
pub fn memory(device: &Device, args: &MachineArgs, config: &Config) -> Result<Budget, Failure> {
    let size: Option<MemorySize> = args.mem.map(Ok).or(parsed("mem", &config.mem)).transpose()?;
    if let Some(size) = size {
        return Ok(Budget::Cap(size.0));
    }
    // A GPU's driver and libraries take a little more while they work.
    let own = device.free_bytes().map_err(zimage::Error::from)?.map(|free| free - free / 16);
    Ok(own.map_or_else(|| Budget::Machine(available_memory()), Budget::Cap))
}
