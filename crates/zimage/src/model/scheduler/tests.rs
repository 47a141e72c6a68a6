//! The expected values were made with diffusers 0.42.1 and torch 2.15.

use serde_json::json;
use zimage_weights::digest::sha256_bytes;

use super::{Schedule, ScheduleError, SchedulerConfig};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn digest(values: impl Iterator<Item = f32>) -> String {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    sha256_bytes(&bytes)[..16].to_string()
}

fn check(steps: usize, shift: f64, sigmas: &[u32], times: &[u32]) {
    let schedule = Schedule::new(steps, shift).unwrap();
    assert_eq!(bits(&schedule.sigmas), sigmas, "sigmas of {steps} steps, shift {shift}");
    let t: Vec<f32> = (0..steps).map(|index| schedule.t(index)).collect();
    assert_eq!(bits(&t), times, "times of {steps} steps, shift {shift}");
}

#[test]
fn the_turbo_default_of_eight_steps_is_exact() {
    check(
        8,
        3.0,
        &[0x3f800000, 0x3f745d17, 0x3f666666, 0x3f555555, 0x3f400000, 0x3f249249, 0x3f000000, 0x3e99999a, 0x00000000],
        &[0x00000000, 0x3d3a2e98, 0x3dcccccd, 0x3e2aaaac, 0x3e800000, 0x3eb6db6f, 0x3f000000, 0x3f333333],
    );
    let schedule = Schedule::new(8, 3.0).unwrap();
    let dt: Vec<f32> = (0..8).map(|index| schedule.dt(index)).collect();
    let expected = [0xbd3a2e90, 0xbd5f6b10, 0xbd888888, 0xbdaaaaa8, 0xbddb6db8, 0xbe124924, 0xbe4ccccc, 0xbe99999a];
    assert_eq!(bits(&dt), expected);
}

#[test]
fn other_schedules_are_exact() {
    check(1, 3.0, &[0x3f800000, 0], &[0]);
    check(4, 3.0, &[0x3f800000, 0x3f666666, 0x3f400000, 0x3f000000, 0], &[0, 0x3dcccccd, 0x3e800000, 0x3f000000]);
    check(
        9,
        3.0,
        &[
            0x3f800000, 0x3f75c290, 0x3f69bd39, 0x3f5b6db6, 0x3f4a1af3, 0x3f34b4b5, 0x3f199999, 0x3eec4ec6, 0x3e8ba2e9,
            0,
        ],
        &[0, 0x3d23d6fa, 0x3db21635, 0x3e124927, 0x3e579435, 0x3e969696, 0x3ecccccf, 0x3f09d89e, 0x3f3a2e8b],
    );
    check(
        8,
        6.0,
        &[0x3f800000, 0x3f7a0be8, 0x3f7286bd, 0x3f68ba2f, 0x3f5b6db7, 0x3f48590b, 0x3f2aaaab, 0x3eec4ec5, 0],
        &[0, 0x3cbe82f2, 0x3d579429, 0x3dba2e87, 0x3e124923, 0x3e5e9bd3, 0x3eaaaaaa, 0x3f09d89e],
    );
}

#[test]
fn every_schedule_up_to_a_thousand_steps_hashes_like_the_reference() {
    for (shift, sigmas, times) in [
        (1.0, "24336bb1fa1c5c3d", "abce329fcf3acf13"),
        (2.5, "049f2c7ca002a7f5", "a46f4e5c6e39085d"),
        (3.0, "439f62c03f46924a", "a27b7f5d471f97fd"),
        (3.1, "a3b87fc587079b31", "653c28bc46e01762"),
        (6.0, "6d0680e767af117b", "d1c008a00256b314"),
    ] {
        let schedules: Vec<_> = (1..=1000).map(|steps| Schedule::new(steps, shift).unwrap()).collect();
        assert_eq!(digest(schedules.iter().flat_map(|schedule| schedule.sigmas.clone())), sigmas, "shift {shift}");
        let t = schedules.iter().flat_map(|schedule| (0..schedule.steps()).map(|index| schedule.t(index)));
        assert_eq!(digest(t), times, "shift {shift}");
    }
}

#[test]
fn strength_selects_the_first_step_in_double_precision() {
    for (steps, strength, start) in [(8, 0.6, 3), (10, 0.6, 4), (8, 1.0, 0), (8, 0.125, 7), (9, 0.6, 3), (50, 0.3, 35)]
    {
        assert_eq!(Schedule::new(steps, 3.0).unwrap().start_index(strength), Ok(start), "{steps} x {strength}");
    }
}

#[test]
fn a_strength_without_a_step_is_refused() {
    let schedule = Schedule::new(8, 3.0).unwrap();
    assert!(matches!(schedule.start_index(0.0), Err(ScheduleError::NoStep { steps: 8, .. })));
    for strength in [-0.1, 1.01, f64::NAN] {
        assert!(matches!(schedule.start_index(strength), Err(ScheduleError::Strength { .. })));
    }
    assert_eq!(schedule.start_index(0.01), Ok(7)); // Any part of a step is a step.
}

#[test]
fn impossible_schedules_are_refused() {
    assert_eq!(Schedule::new(0, 3.0), Err(ScheduleError::Steps { steps: 0 }));
    assert_eq!(Schedule::new(1001, 3.0), Err(ScheduleError::Steps { steps: 1001 }));
    for shift in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        assert!(matches!(Schedule::new(8, shift), Err(ScheduleError::Shift { .. })), "{shift}");
    }
}

#[test]
fn the_published_configurations_are_accepted() {
    for shift in [3.0, 6.0] {
        let config = json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "num_train_timesteps": 1000,
            "use_dynamic_shifting": false,
            "shift": shift,
        });
        let expected = SchedulerConfig { num_train_timesteps: 1000, shift };
        assert_eq!(SchedulerConfig::from_json(&config), Ok(expected));
    }
}

#[test]
fn options_that_would_change_the_sigmas_are_refused_by_name() {
    for (option, value) in [
        ("use_dynamic_shifting", json!(true)),
        ("use_karras_sigmas", json!(true)),
        ("use_exponential_sigmas", json!(true)),
        ("use_beta_sigmas", json!(true)),
        ("invert_sigmas", json!(true)),
        ("stochastic_sampling", json!(true)),
        ("shift_terminal", json!(0.1)),
        ("shift", json!("three")),
        ("num_train_timesteps", json!(500)),
        ("use_karras_sigmas", json!(1)),
    ] {
        let mut config = json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0 });
        config[option] = value;
        let message = SchedulerConfig::from_json(&config).unwrap_err().to_string();
        assert!(message.contains(option), "{message}");
    }
    let other = json!({ "_class_name": "DDIMScheduler" });
    assert!(SchedulerConfig::from_json(&other).unwrap_err().to_string().contains("DDIMScheduler"));
    assert!(SchedulerConfig::from_json(&json!([])).unwrap_err().to_string().contains("nothing"));
}

fn golden(name: &str) -> serde_json::Value {
    let path = format!("{}/../../goldens/schedule/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bit_patterns(value: &serde_json::Value) -> Vec<u32> {
    let word = |text: &serde_json::Value| u32::from_str_radix(text.as_str().unwrap(), 16).unwrap();
    value.as_array().unwrap().iter().map(word).collect()
}

#[test]
fn the_goldens_are_met_bit_for_bit() {
    for case in golden("schedule.json")["shifted"].as_array().unwrap() {
        let (steps, shift) = (case["steps"].as_u64().unwrap() as usize, case["shift"].as_f64().unwrap());
        check(steps, shift, &bit_patterns(&case["sigmas"]), &bit_patterns(&case["times"]));
        let schedule = Schedule::new(steps, shift).unwrap();
        assert_eq!(bits(&schedule.timesteps), bit_patterns(&case["timesteps"]));
    }
    for case in golden("strength.json")["starts"].as_array().unwrap() {
        let steps = case["steps"].as_u64().unwrap() as usize;
        let start = Schedule::new(steps, 3.0).unwrap().start_index(case["strength"].as_f64().unwrap());
        let expected = (case["remaining"].as_u64() != Some(0)).then(|| case["t_start"].as_u64().unwrap() as usize);
        assert_eq!(start.ok(), expected, "{case}");
    }
}
