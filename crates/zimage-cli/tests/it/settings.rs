//! Flags win over the environment, and the environment over config.toml.

use serde_json::Value;

use crate::{Home, Run, tiny};

fn steps(run: Run) -> u64 {
    let line: Value = serde_json::from_str(&run.ok().stdout).unwrap();
    line["steps"].as_u64().unwrap()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let home = Home::new();
    home.write("config.toml", format!("model = '{}'\nwidth = 16\nheight = 16\nsteps = 3\n", tiny()));
    let args = ["generate", "x", "--json", "-o", "a.png"];
    assert_eq!(steps(home.run(&args)), 3);
    assert_eq!(steps(Run::of(home.command(&args).env("ZIMAGE_STEPS", "2").output().unwrap())), 2);
    let flag = [&args[..], &["--steps", "1"]].concat();
    assert_eq!(steps(Run::of(home.command(&flag).env("ZIMAGE_STEPS", "2").output().unwrap())), 1);
    home.write("config.toml", format!("model = '{}'\nwidth = 16\nheight = 16\n", tiny()));
    assert_eq!(steps(home.run(&args)), 8);
}

#[test]
fn bad_settings_are_refused_with_their_source() {
    let home = Home::new();
    let args = ["generate", "x"];
    for (text, fragment) in [
        ("stepps = 3", "stepps"),
        ("steps = 'x'", "config.toml"),
        ("steps = ", "config.toml"),
        ("device = 'abacus'", "device"),
        ("mem = 'lots'", "mem"),
        ("cache = 'turbo'", "the setting cache is not usable: expected one of none, slow, medium, fast"),
        ("threads = 0", "0 threads"),
        ("output = 'x.gif'", "x.gif"),
    ] {
        home.write("config.toml", text);
        Run::of(home.command(&args).env_remove("ZIMAGE_DEVICE").output().unwrap()).fails(2, fragment);
    }
    home.write("config.toml", "");
    Run::of(home.command(&args).env("ZIMAGE_STEPS", "many").output().unwrap()).fails(2, "ZIMAGE_STEPS");
    Run::of(home.command(&args).env("ZIMAGE_MODEL", "absent").output().unwrap()).fails(3, "`absent`");
}
