//! Arithmetic, memory and the benchmark from the command line.

use serde_json::Value;
use zimage::pipeline::image::InitImage;

use crate::{Home, tiny};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn int8_is_taken_when_asked_for_and_recorded() {
    let home = Home::new();
    let exact = home.generate(&["a cat", "-o", "exact.png", "--json"]).ok();
    assert_eq!(json(&exact.stdout)["compute"], "exact", "weights of floats are computed as floats");
    let int8 = home.generate(&["a cat", "-o", "int8.png", "--json", "--compute", "int8"]).ok();
    assert_eq!(json(&int8.stdout)["compute"], "int8");
    assert!(int8.stderr.contains("compute: cpu (int8 by "), "{int8:#?}");
    let pixels = |name: &str| InitImage::open(home.path(name).as_ref()).unwrap().image().pixels().to_vec();
    assert_ne!(pixels("exact.png"), pixels("int8.png"));
    let inspected = home.run(&["inspect", "int8.png", "--json"]).ok();
    assert!(inspected.stdout.contains("\"compute\":\"int8\"") || inspected.stdout.contains("\"compute\": \"int8\""));
}

#[test]
fn pictures_in_8_bits_do_not_depend_on_threads_or_on_pictures_before_them() {
    let home = Home::new();
    let run = |args: &[&str]| home.generate(&[&["a cat", "--compute", "int8"], args].concat()).ok();
    run(&["-o", "one.png", "--threads", "1"]);
    run(&["-o", "two.png", "--threads", "3"]);
    run(&["-o", "n-{index}.png", "-n", "3"]);
    let pixels = |name: &str| InitImage::open(home.path(name).as_ref()).unwrap().image().pixels().to_vec();
    assert_eq!(pixels("one.png"), pixels("two.png"));
    assert_eq!(pixels("one.png"), pixels("n-0.png"));
    assert_ne!(pixels("n-0.png"), pixels("n-1.png"));
}

#[test]
fn a_cap_below_the_need_is_refused_with_the_predicted_peak() {
    let home = Home::new();
    let run = home.generate(&["a cat", "-o", "out.png", "--compute", "int8", "--mem", "100K"]).fails(4, "memory");
    assert!(run.stderr.contains("hint: "), "{run:#?}");
    assert!(!home.path("out.png").exists());
}

#[test]
fn bench_reports_every_stage_beside_the_peak() {
    let home = Home::new();
    for (precision, compute) in [("bf16", "exact"), ("int8", "int8")] {
        let fixed = ["bench", "--shape", "demo", "--width", "64", "--height", "48", "--steps", "2", "--json"];
        let run = home.run(&[&fixed[..], &["--precision", precision, "--compute", compute]].concat()).ok();
        let report = json(&run.stdout);
        assert_eq!((&report["compute"], &report["shape"]), (&compute.into(), &"demo".into()));
        for key in ["f32_gflops_per_core", "int8_gops_per_core", "read_gbytes_per_s"] {
            assert!(report["peak"][key].as_f64().unwrap() > 0.0, "{key}: {report}");
        }
        let stages = report["stages"].as_array().unwrap();
        let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
        let expected = ["text_encoder", "step", "step.linear", "step.attention", "step.other", "vae_decode"];
        assert_eq!(names, expected);
        for stage in stages.iter().filter(|stage| stage["name"] != "step.other") {
            assert!(stage["flop"].as_f64().unwrap() > 0.0 && stage["cpu_ms"].as_f64().unwrap() > 0.0, "{stage}");
            assert!(stage["share_of_peak"].as_f64().unwrap() > 0.0, "{stage}");
        }
        assert!(report["load_ms"].is_u64() && report["threads"].as_u64().unwrap() > 0);
    }
}

#[test]
fn bench_refuses_what_it_cannot_measure() {
    let home = Home::new();
    for (args, fragment) in [
        (&["--precision", "keep"][..], "nothing to keep"),
        (&["--precision", "int7"], "expected one of"),
        (&["--width", "100"], "multiple of 16"),
        (&["--height", "0"], "multiple of 16"),
        (&["--shape", "base"], "turbo or demo"),
        (&["--compute", "fast"], "auto, exact, bf16, f16, fp8 or int8"),
    ] {
        home.run(&[&["bench"], args].concat()).fails(2, fragment);
    }
}

#[test]
fn a_plan_tells_what_the_arithmetic_takes() {
    let home = Home::new();
    let plan = |args: &[&str]| {
        let model = tiny();
        let run = home.run(&[&["plan", "-m", &model, "--width", "64", "--height", "48", "--json", "x"], args].concat());
        json(&run.ok().stdout)
    };
    let denoise = |plan: &Value| {
        let phases = plan["phases"].as_array().unwrap();
        phases.iter().find(|phase| phase["name"] == "denoise").unwrap()["working_bytes"].as_u64().unwrap()
    };
    // Quantized activations lie beside those in floats.
    assert!(denoise(&plan(&["--compute", "int8"])) > denoise(&plan(&["--compute", "exact"])));
}
