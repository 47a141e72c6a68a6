use clap::{CommandFactory, Parser};

use super::{Aspect, Cli, Command, MemorySize};
use crate::device::{DeviceChoice, DeviceChoices};

#[test]
fn the_declarations_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn sizes_of_memory_take_binary_units() {
    for (text, bytes) in [("1", 1), ("6G", 6 << 30), ("6GiB", 6 << 30), ("1.5g", 3 << 29), ("512 MB", 512 << 20)] {
        assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
    }
    for text in ["", "G", "-1G", "0", "1X", "1e9", "99999999999T", "nan"] {
        assert!(text.parse::<MemorySize>().is_err(), "{text}");
    }
}

#[test]
fn aspects_are_two_positive_numbers() {
    assert_eq!("16:9".parse(), Ok(Aspect { width: 16.0, height: 9.0 }));
    assert_eq!("2.39:1".parse(), Ok(Aspect { width: 2.39, height: 1.0 }));
    for text in ["", "16", "16:", "0:1", "-1:2", "inf:1", "16x9", "1:2:3"] {
        assert!(text.parse::<Aspect>().is_err(), "{text}");
    }
}

#[test]
fn devices_of_the_contract_parse() {
    assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
    assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
    for text in ["", "gpu", "cuda:", "cuda:x", "CPU", "cuda:0,", "cpu,cpu"] {
        assert!(text.parse::<DeviceChoices>().is_err(), "{text}");
    }
    let two = DeviceChoices(vec![DeviceChoice::Cuda(0), DeviceChoice::Cuda(1)]);
    assert_eq!("cuda:0, cuda:1".parse(), Ok(two));
}

#[test]
fn an_empty_prompt_is_a_prompt() {
    let cli = Cli::try_parse_from(["zimage", "generate", ""]).unwrap();
    let Command::Generate(args) = cli.command else { panic!("another command") };
    assert_eq!(args.prompt.prompt.as_deref(), Some(""));
}
