//! Where to compute. What needs a GPU says that it was skipped where there is none.

use crate::{Home, Run, tiny};
use zimage::Device;
use zimage::pipeline::image::InitImage;

#[test]
fn devices_that_are_not_there_are_refused_with_what_to_do() {
    let home = Home::new();
    let last = u16::MAX.to_string();
    for device in ["cuda:65535", "metal", "mlx"] {
        if device != "cuda:65535" && Device::mlx().is_ok() {
            continue;
        }
        let run = home.generate(&["x", "--device", device]).fails(2, "hint: ");
        assert!(run.stderr.contains("CUDA") || run.stderr.contains(&last) || run.stderr.contains("MLX"), "{run:#?}");
    }
    home.generate(&["x", "--device", "cpu,cuda:0"]).fails(2, "a picture is made on one device");
    home.run(&["serve", "--device", "cuda:1,cuda:1"]).fails(2, "named twice");
    assert!(home.names().is_empty(), "something was written: {:?}", home.names());
}

#[test]
fn arithmetic_that_the_cpu_does_not_have_is_refused() {
    let home = Home::new();
    for compute in ["bf16", "f16", "fp8"] {
        let run = home.generate(&["x", "--compute", compute]).fails(2, "the CPU does not compute in");
        assert!(run.stderr.contains("hint: leave --compute out"), "{run:#?}");
        home.run(&["bench", "--shape", "demo", "--device", "cpu", "--compute", compute])
            .fails(2, "the CPU does not compute in");
    }
}

#[test]
fn auto_takes_a_gpu_where_there_is_one() {
    let home = Home::new();
    let run = home.generate(&["a cat", "-o", "auto.png", "--device", "auto", "--json"]).ok();
    let line: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let device = &line["device"];
    match (Device::mlx(), Device::cuda(0)) {
        (Ok(_), _) => assert_eq!(device, "mlx"),
        (_, Ok(_)) => assert_eq!(device, "cuda"),
        (_, Err(error)) => {
            println!("skipped on a GPU: {error}");
            assert_eq!(device, "cpu");
        }
    }
}

#[test]
fn a_gpu_draws_the_picture_of_the_cpu() {
    if let Err(error) = Device::cuda(0) {
        println!("skipped: {error}");
        return;
    }
    let home = Home::new();
    for compute in ["exact", "bf16", "fp8", "int8"] {
        let name = format!("{compute}.png");
        let args = ["generate", "a red circle", "--seed", "7", "--device", "cuda", "--compute", compute, "-o", &name];
        home.run(&args).ok();
    }
    home.run(&["generate", "a red circle", "--seed", "7", "-o", "cpu.png"]).ok();
    let pixels = |name: &str| InitImage::open(&home.path(name)).unwrap().image().pixels().to_vec();
    let expected = pixels("cpu.png");
    for compute in ["exact", "bf16", "fp8", "int8"] {
        let found = pixels(&format!("{compute}.png"));
        let off: u64 = expected.iter().zip(&found).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = off as f64 / expected.len() as f64;
        assert!(mean < if compute == "exact" { 0.1 } else { 8.0 }, "{compute}: pixels are off by {mean} on average");
    }
}

/// Runs with a GPU of so many bytes, which the CPU plays.
fn on_emulated_gpu(home: &Home, memory: &str, args: &[&str]) -> Run {
    Run::of(home.command(args).env("ZIMAGE_CUDA_EMULATOR", memory).output().unwrap())
}

#[test]
fn all_commands_compute_on_a_gpu() {
    let home = Home::new();
    let model = tiny();
    let cuda = |args: &[&str]| on_emulated_gpu(&home, "8000000000", args);
    let fixed = ["generate", "-m", &model, "x", "--width", "64", "--height", "48", "--steps", "2", "--seed", "42"];
    let on = ["-o", "cuda.png", "--json", "--device", "cuda", "--compute", "exact"];
    let run = cuda(&[&fixed[..], &on].concat()).ok();
    let line: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&line["device"], &line["compute"]), (&"cuda".into(), &"exact".into()));
    assert!(run.stderr.contains("device: cuda:0 (emulator"), "{run:#?}");
    home.run(&[&fixed[..], &["-o", "cpu.png"]].concat()).ok();
    let [a, b] = ["cpu.png", "cuda.png"].map(|name| InitImage::open(&home.path(name)).unwrap());
    let worst = a.image().pixels().iter().zip(b.image().pixels()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(worst <= Some(1), "a pixel is off by {worst:?}");

    let two = ["--count", "2", "-o", "{index}.png", "--device", "cuda:0"];
    let run = cuda(&[&fixed[..], &two].concat()).ok();
    assert!(run.stderr.contains("bf16"), "{run:#?}");
    let plan = ["plan", "-m", &model, "x", "--width", "64", "--height", "48", "--device", "cuda", "--json"];
    serde_json::from_str::<serde_json::Value>(&cuda(&plan).ok().stdout).unwrap();
    let bench = ["bench", "--shape", "demo", "--width", "64", "--height", "64", "--device", "cuda", "--json"];
    for compute in ["bf16", "fp8"] {
        let run = cuda(&[&bench[..], &["--precision", "bf16", "--compute", compute]].concat()).ok();
        let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!((&report["compute"], &report["stages"][1]["of"]), (&compute.into(), &compute.into()));
        assert!(report["device_peak"]["gflops"].as_f64() > Some(0.0), "{report}");
        assert_eq!(report["stages"][5]["name"], "step.repeated", "a GPU records steps: {report}");
    }
}

#[test]
fn a_gpu_that_is_too_small_is_told_before_any_work_and_a_cap_is_its_own_memory() {
    let home = Home::new();
    let model = tiny();
    let args = ["generate", "-m", &model, "x", "--width", "64", "--height", "48", "-o", "x.png", "--device", "cuda"];
    let run = on_emulated_gpu(&home, "1000000", &args).fails(4, "this needs about");
    assert!(run.stderr.contains("hint: "), "{run:#?}");
    on_emulated_gpu(&home, "8000000000", &[&args[..], &["--mem", "1M"]].concat()).fails(4, "this needs about");
    assert!(!home.path("x.png").exists());
}
