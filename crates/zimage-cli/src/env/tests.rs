use std::path::Path;

use toml::Table;

use super::{Config, SETTINGS, kibibytes, overlay};

fn load(file: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let table: Table = file.parse().unwrap();
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    overlay(table, Path::new("config.toml"), variable).map_err(|failure| failure.to_string())
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load("steps = 4\nmodel = \"a\"\nguidance = 2", &[("steps", "6"), ("model", "12"), ("shift", "")]);
    let expected =
        Config { steps: Some(6), model: Some("12".into()), guidance: Some(2.0), shift: None, ..Config::default() };
    assert_eq!(config, Ok(expected));
}

#[test]
fn a_bad_value_is_refused_with_the_name_of_its_source() {
    assert!(load("steps = \"many\"", &[]).unwrap_err().contains("config.toml"));
    assert!(load("stepps = 4", &[]).unwrap_err().contains("stepps"));
    assert!(load("", &[("steps", "many")]).unwrap_err().contains("ZIMAGE_STEPS"));
    assert!(load("", &[("steps", "-1")]).unwrap_err().contains("ZIMAGE_STEPS"));
}

#[test]
fn every_setting_can_come_from_the_environment() {
    for (name, is_text) in SETTINGS {
        let config = load("", &[(name, if is_text { "x" } else { "7" })]);
        assert_ne!(config.unwrap(), Config::default(), "{name}");
    }
}

#[test]
fn memory_is_read_from_the_systems_tables() {
    assert_eq!(kibibytes("Name: x\nVmHWM:\t    2048 kB\n", "VmHWM:"), Some(2 << 20));
    assert_eq!(kibibytes("VmHWM: lots\n", "VmHWM:"), None);
    assert_eq!(kibibytes("", "VmHWM:"), None);
}
