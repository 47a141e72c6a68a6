//! `zimage inspect` and `zimage doctor`.

use std::fs;

use serde_json::Value;

use crate::{Home, golden, tiny};

#[test]
fn a_model_is_described_and_usable() {
    let home = Home::new();
    let run = home.run(&["inspect", &tiny()]).ok();
    for fragment in ["diffusers directory", "transformer: ", "text encoder: ", "VAE: ", "f32", "supported  yes"] {
        assert!(run.stdout.contains(fragment), "{fragment}: {run:#?}");
    }
    let report: Value = serde_json::from_str(&home.run(&["inspect", &tiny(), "--json"]).ok().stdout).unwrap();
    assert_eq!((&report["dialect"], &report["supported"]), (&"diffusers".into(), &true.into()));

    let run = home.run(&["doctor", &tiny()]).ok();
    assert!(run.stdout.ends_with("usable: yes\n"), "{run:#?}");
    let diagnosis: Value = serde_json::from_str(&home.run(&["doctor", &tiny(), "--json"]).ok().stdout).unwrap();
    assert_eq!(diagnosis["usable"], true);
}

#[test]
fn one_file_of_a_model_is_described() {
    let home = Home::new();
    let file = golden("models/tiny-a/vae/diffusion_pytorch_model.safetensors").display().to_string();
    let run = home.run(&["inspect", &file]).ok();
    assert!(run.stdout.contains("safetensors") && run.stdout.contains("VAE: "), "{run:#?}");
}

#[test]
fn a_misfit_is_listed_by_name_with_exit_code_1() {
    let home = Home::new();
    let model = home.copy_of_tiny("model");
    let config = model.join("vae/config.json");
    let text = fs::read_to_string(&config).unwrap().replace("\"layers_per_block\": 1", "\"layers_per_block\": 2");
    fs::write(&config, text).unwrap();
    let model = model.display().to_string();
    let run = home.run(&["doctor", &model]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stdout.contains("  missing    ") && run.stdout.ends_with("usable: no\n"), "{run:#?}");
    let run = home.run(&["doctor", &model, "--json"]);
    let diagnosis: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &diagnosis["usable"]), (Some(1), &false.into()));
}

#[test]
fn a_scheduler_that_cannot_be_run_makes_a_model_unusable() {
    let home = Home::new();
    let model = home.copy_of_tiny("model");
    let config = model.join("scheduler/scheduler_config.json");
    let mut value: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    value["use_dynamic_shifting"] = true.into();
    fs::write(&config, value.to_string()).unwrap();
    let run = home.run(&["doctor", &model.display().to_string()]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("use_dynamic_shifting"), "{run:#?}");
}

#[test]
fn paths_that_are_not_there_are_exit_code_3() {
    let home = Home::new();
    home.run(&["inspect", "absent"]).fails(3, "absent");
    home.run(&["doctor", "absent"]).fails(3, "absent");
}

#[test]
fn foreign_files_are_named() {
    let home = Home::new();
    let text = home.write("x.safetensors", "hello there, this is text");
    home.run(&["inspect", &text]).fails(1, "x.safetensors");
    fs::create_dir(home.path("empty")).unwrap();
    home.run(&["inspect", "empty"]).fails(1, "neither");
}

#[test]
fn a_gguf_file_of_something_else_is_described_and_refused() {
    let home = Home::new();
    let file = golden("container/sample.gguf").display().to_string();
    let run = home.run(&["inspect", &file]).ok();
    let lines = ["container  gguf", "supported  no", "weights: 6 tensors", "architecture lumina2", "q8_0 (1 tensor,"];
    for fragment in lines.into_iter().chain(["metadata   general.quantization_version = 2"]) {
        assert!(run.stdout.contains(fragment), "{fragment}: {run:#?}");
    }
    let run = home.run(&["doctor", &file]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("this is an unknown kind of file"), "{run:#?}");
    home.run(&["generate", "-m", &file, "x"]).fails(3, "an unknown kind of file");
}

#[test]
fn a_picture_tells_how_it_was_made() {
    let home = Home::new();
    home.generate(&["a cat", "-o", "a.png"]).ok();
    let run = home.run(&["inspect", "a.png"]).ok();
    assert!(
        run.stdout.contains("Steps: 2, Sampler: Euler") && run.stdout.contains("\"prompt\": \"a cat\""),
        "{run:#?}"
    );
    let value: Value = serde_json::from_str(&home.run(&["inspect", "a.png", "--json"]).ok().stdout).unwrap();
    assert_eq!((&value["metadata"]["seed"], &value["metadata"]["prompt"]), (&42.into(), &"a cat".into()));

    let plain = golden("pipeline/colours-80x64.png").display().to_string();
    let run = home.run(&["inspect", &plain]).ok();
    assert!(run.stdout.contains("no metadata"), "{run:#?}");
}

#[test]
fn completions_and_version_are_printed() {
    let home = Home::new();
    assert!(home.run(&["completions", "bash"]).ok().stdout.contains("zimage"));
    assert_eq!(home.run(&["--version"]).ok().stdout, format!("zimage {}\n", env!("CARGO_PKG_VERSION")));
    assert!(home.run(&["--help"]).ok().stdout.contains("Examples:"));
}
