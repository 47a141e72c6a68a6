//! LoRAs: which files are meant, what they do to a picture, and what is told of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zimage::pipeline::image::InitImage;
use zimage::pipeline::metadata::{Embedded, LoraRecord};
use zimage_weights::digest::sha256_file;

use crate::{Home, Run, golden};

/// The one that the repository carries for the embedded model.
fn night() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo-loras/night.safetensors")
}

fn kohya() -> String {
    golden("lora/kohya.safetensors").display().to_string()
}

/// A picture of the embedded model.
fn draw(home: &Home, name: &str, args: &[&str]) -> Run {
    home.run(&[&["generate", "a red house in a meadow", "--seed", "5", "-o", name], args].concat()).ok()
}

fn pixels(home: &Home, name: &str) -> Vec<u8> {
    InitImage::open(&home.path(name)).unwrap().image().pixels().to_vec()
}

fn brightness(home: &Home, name: &str) -> f64 {
    let pixels = pixels(home, name);
    pixels.iter().map(|value| f64::from(*value)).sum::<f64>() / pixels.len() as f64
}

fn recorded(home: &Home, name: &str) -> Vec<LoraRecord> {
    Embedded::from_image_file(&home.path(name)).unwrap().unwrap().metadata.unwrap().loras
}

#[test]
fn a_lora_changes_the_picture_by_its_weight_and_not_at_all_at_zero() {
    let home = Home::new();
    let lora = night().display().to_string();
    draw(&home, "without.png", &[]);
    for weight in ["0", "0.5", "1"] {
        draw(&home, &format!("{weight}.png"), &["--lora", &format!("{lora}:{weight}")]);
    }
    assert!(pixels(&home, "without.png") == pixels(&home, "0.png"));
    let [day, dusk, night] = ["without.png", "0.5.png", "1.png"].map(|name| brightness(&home, name));
    assert!(day - dusk > 15.0 && dusk - night > 15.0, "{day} {dusk} {night}");
    // Half of it twice is all of it once, up to the rounding of a byte or two.
    let half = format!("{lora}:0.5");
    draw(&home, "twice.png", &["--lora", &half, "--lora", &half]);
    assert!((brightness(&home, "twice.png") - night).abs() < 0.5);
}

#[test]
fn loras_are_recorded_in_the_picture() {
    let home = Home::new();
    let run = home.generate(&["a cat", "-o", "a.png", "--lora", &format!("{}:0.7", kohya())]).ok();
    assert!(run.stderr.contains("lora kohya: weight 0.7, 28 layers"), "{run:#?}");
    let sha256 = sha256_file(kohya().as_ref()).unwrap();
    let expected = LoraRecord { name: "kohya".into(), sha256: sha256.clone(), weight: 0.7 };
    assert_eq!(recorded(&home, "a.png"), [expected]);
    let text = home.run(&["inspect", "a.png"]).ok().stdout;
    assert!(text.contains("a cat <lora:kohya:0.7>\nSteps"), "{text}");
    assert!(text.contains(&format!("Lora hashes: \"kohya: {}\"", &sha256[..10])), "{text}");
    home.generate(&["a cat", "-o", "b.png"]).ok();
    assert!(recorded(&home, "b.png").is_empty());
}

#[test]
fn names_are_found_in_the_home_directory_with_or_without_ending_and_folder() {
    let home = Home::new();
    fs::create_dir_all(home.path("loras/styles")).unwrap();
    fs::copy(kohya(), home.path("loras/styles/ink.safetensors")).unwrap();
    for name in ["ink", "ink.safetensors", "styles/ink", "styles\\ink", "styles/ink.safetensors:0.5", "ink:-0.5"] {
        let run = home.generate(&["a cat", "-o", "a.png", "--lora", name]).ok();
        assert!(run.stderr.contains("lora ink: weight"), "{name}: {run:#?}");
    }
    let run = home.generate(&["x", "--lora", "pencil:0.5"]).fails(3, "no LoRA `pencil`");
    assert!(run.stderr.contains("installed are styles/ink.safetensors"), "{run:#?}");
    fs::copy(kohya(), home.path("loras/ink.safetensors")).unwrap();
    home.generate(&["a cat", "-o", "a.png", "--lora", "ink"]).ok();
    fs::rename(home.path("loras/ink.safetensors"), home.path("loras/styles/ink2.safetensors")).unwrap();
    fs::create_dir(home.path("loras/old")).unwrap();
    fs::copy(kohya(), home.path("loras/old/ink.safetensors")).unwrap();
    home.generate(&["x", "--lora", "ink"]).fails(3, "several LoRAs `ink`: old/ink.safetensors, styles/ink.safetensors");
}

#[cfg(unix)]
#[test]
fn a_file_whose_name_ends_like_a_weight_is_taken_for_what_it_is() {
    let home = Home::new();
    fs::copy(kohya(), home.path("a:2")).unwrap();
    let run = home.generate(&["a cat", "-o", "a.png", "--lora", "a:2"]).ok();
    assert!(run.stderr.contains("weight 1, 28 layers"), "{run:#?}");
    let run = home.generate(&["a cat", "-o", "a.png", "--lora", "a:2:0.5"]).ok();
    assert!(run.stderr.contains("weight 0.5, 28 layers"), "{run:#?}");
}

#[test]
fn loras_that_cannot_be_used_are_refused_by_what_is_wrong() {
    let home = Home::new();
    let night = night().display().to_string();
    home.generate(&["x", "--lora", &night]).fails(3, "modules do not fit the model");
    let model = golden("models/tiny-a/transformer/diffusion_pytorch_model.safetensors").display().to_string();
    home.generate(&["x", "--lora", &model]).fails(3, "it has no LoRA, LoHa, LoKr or DoRA tensors");
    let text = home.write("x.safetensors", "no tensors at all");
    home.generate(&["x", "--lora", &text]).fails(3, "x.safetensors");
    home.generate(&["x", "--lora", "absent.safetensors:0.5"]).fails(3, "absent.safetensors");
    home.generate(&["x", "--lora", "night:nan"]).fails(2, "--lora");
    home.generate(&["x", "--lora", ""]).fails(2, "--lora");
}

#[test]
fn plan_counts_the_bytes_of_loras() {
    let home = Home::new();
    let lora = night().display().to_string();
    let weights = |args: &[&str]| {
        let run = home.run(&[&["plan", "x", "--json"], args].concat()).ok();
        let plan: Value = serde_json::from_str(&run.stdout).unwrap();
        plan["phases"][1]["weights_bytes"].as_u64().unwrap()
    };
    let (with, without) = (weights(&["--lora", &lora]), weights(&[]));
    assert!(with >= without + 460_000 && with < without + 700_000, "{with} {without}");
    assert_eq!(weights(&["--lora", &format!("{lora}:0")]), without);
}

#[test]
fn inspect_and_doctor_tell_what_a_lora_is() {
    let home = Home::new();
    let night = night().display().to_string();
    let run = home.run(&["inspect", &night]).ok();
    for fragment in ["a LoRA adapter", "rank       8", "alpha      8", "triggers   moonlit", "weight     1 recommended"]
    {
        assert!(run.stdout.contains(fragment), "{fragment}: {run:#?}");
    }
    assert!(run.stdout.contains("attention.to_q (6)"), "{run:#?}");
    let report: Value = serde_json::from_str(&home.run(&["inspect", &night, "--json"]).ok().stdout).unwrap();
    let lora = &report["parts"][0]["lora"];
    assert_eq!((&lora["ranks"][0], &lora["notes"]["trigger_words"][0]), (&8.into(), &"moonlit".into()));

    let run = home.run(&["doctor", &night]).ok();
    assert!(
        run.stdout.contains("it fits the embedded demo model") && run.stdout.ends_with("usable: yes\n"),
        "{run:#?}"
    );
    let run = home.run(&["doctor", &kohya()]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stdout.contains("do not fit the model") && run.stdout.ends_with("usable: no\n"), "{run:#?}");
}
