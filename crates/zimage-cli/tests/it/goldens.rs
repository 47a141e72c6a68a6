//! The pictures of diffusers, through the command line.

use std::fs;

use serde_json::Value;
use zimage::pipeline::image::InitImage;

use crate::{Home, golden};

/// Largest difference of a byte. Both sides compute in f32 and round once; sums in another order move a value that
/// lies on a rounding boundary to the next byte.
const TOLERANCE: u8 = 1;

fn arguments(case: &Value) -> Vec<String> {
    let text = |key: &str| case[key].as_str().map(str::to_string);
    let model = golden("models").join(text("model").unwrap()).display().to_string();
    let mut args: Vec<String> = ["generate", "-q", "-o", "out.png", "-m", &model].map(String::from).to_vec();
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            args.extend([format!("--{name}"), value]);
        }
    };
    for name in ["width", "height", "steps", "seed", "strength"] {
        flag(name, case.get(name).map(Value::to_string));
    }
    flag("guidance", case.get("guidance_scale").map(Value::to_string));
    flag("cfg-truncation", case.get("cfg_truncation").map(Value::to_string));
    flag("cfg-normalization", (case["cfg_normalization"] == true).then(|| "1".to_string()));
    flag("negative", text("negative_prompt"));
    let file = |name: &str| text(name).map(|file| golden("pipeline").join(file).display().to_string());
    flag("init-image", file("image"));
    flag("mask", file("mask"));
    args.extend(["--".to_string(), text("prompt").unwrap()]);
    args
}

#[test]
fn every_picture_of_the_reference_is_met() {
    let cases: Value = serde_json::from_str(&fs::read_to_string(golden("pipeline/cases.json")).unwrap()).unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let home = Home::new();
        let args = arguments(case);
        home.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let ours = InitImage::open(&home.path("out.png")).unwrap();
        let reference = InitImage::open(&golden(&format!("pipeline/{name}.png"))).unwrap();
        let (ours, reference) = (ours.image(), reference.image());
        assert_eq!((ours.width(), ours.height()), (reference.width(), reference.height()), "{name}");
        let worst = ours.pixels().iter().zip(reference.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(TOLERANCE), "{name}: a byte is off by {worst:?}");
    }
}
