//! Where to compute. What needs a GPU says that it was skipped where there is none.

use crate::Home;
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
