//! `zimage generate` where it works.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use zimage::pipeline::image::InitImage;
use zimage::pipeline::metadata::{Embedded, Metadata, TaskRecord};
use zimage_weights::container::Container;
use zimage_weights::digest::{sha256_bytes, sha256_file};

use crate::{Home, Run, golden, tiny};

fn metadata(path: &str) -> Metadata {
    Embedded::from_image_file(path.as_ref()).unwrap().unwrap().metadata.unwrap()
}

#[test]
fn stdout_is_the_path_and_nothing_else() {
    let home = Home::new();
    let out = home.text("out.png");
    let run = home.generate(&["a cat", "-o", &out]).ok();
    assert_eq!(run.stdout, format!("{out}\n"));
    assert!(run.stderr.contains("device: cpu"), "{run:#?}");
    let picture = InitImage::open(out.as_ref()).unwrap();
    assert_eq!((picture.image().width(), picture.image().height()), (64, 48));
}

#[test]
fn quiet_silences_the_notes() {
    let home = Home::new();
    let run = home.generate(&["a cat", "-o", "out.png", "-q"]).ok();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out.png\n", ""));
}

#[test]
fn the_json_line_has_the_keys_of_the_contract_in_order() {
    let home = Home::new();
    let run = home.generate(&["a cat", "-o", "out.png", "--json"]).ok();
    let line: Value = serde_json::from_str(&run.stdout).unwrap();
    let expected = [
        "path",
        "seed",
        "width",
        "height",
        "steps",
        "model",
        "sha256",
        "timings_ms",
        "load",
        "encode",
        "denoise",
        "decode",
        "peak_rss_bytes",
        "device",
        "compute",
    ];
    let places: Vec<_> = expected.iter().map(|key| run.stdout.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{}", run.stdout);
    assert_eq!(run.lines().len(), 1);
    assert_eq!(line["path"], "out.png");
    assert_eq!(
        (&line["seed"], &line["width"], &line["height"], &line["steps"]),
        (&42.into(), &64.into(), &48.into(), &2.into())
    );
    assert_eq!(line["model"], "tiny-a");
    assert_eq!(line["sha256"], sha256_bytes(&fs::read(home.path("out.png")).unwrap()));
    assert_eq!((&line["device"], &line["compute"]), (&"cpu".into(), &"exact".into()));
    if cfg!(target_os = "linux") {
        assert!(line["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_for_any_number_of_threads() {
    let home = Home::new();
    home.generate(&["a cat", "-o", "a.png"]).ok();
    for threads in ["1", "3"] {
        home.generate(&["a cat", "-o", "b.png", "--threads", threads]).ok();
    }
    let a = fs::read(home.path("a.png")).unwrap();
    assert!(a == fs::read(home.path("b.png")).unwrap() && a == fs::read(home.path("b-1.png")).unwrap());
}

#[test]
fn existing_files_are_numbered_around_and_never_overwritten() {
    let home = Home::new();
    home.write("out.png", "mine");
    let run = home.generate(&["a cat", "-o", "out.png", "-n", "2"]).ok();
    assert_eq!(run.lines(), ["out-1.png", "out-2.png"]);
    assert_eq!(fs::read(home.path("out.png")).unwrap(), b"mine");
    assert_eq!(home.names(), ["cache", "out-1.png", "out-2.png", "out.png"]);
    assert_eq!((metadata(&home.text("out-1.png")).seed, metadata(&home.text("out-2.png")).seed), (42, 43));
}

#[test]
fn the_default_place_is_in_the_home_directory_and_the_random_seed_is_printed() {
    let home = Home::new();
    let model = tiny();
    let args = ["generate", "-m", &model, "--width", "16", "--height", "16", "--steps", "1", "a cat"];
    let run = home.run(&args).ok();
    let path = run.stdout.trim_end();
    assert!(path.starts_with(&home.text("outputs")), "{path}");
    let seed = run.stderr.lines().find_map(|line| line.strip_prefix("seed ")).unwrap();
    assert!(path.ends_with(&format!("-{seed}.png")), "{path}");
    assert_eq!(metadata(path).seed.to_string(), seed);
}

#[test]
fn placeholders_and_prompt_files_make_one_picture_each() {
    let home = Home::new();
    let prompts = home.write("prompts.txt", "\u{feff}a cat\r\n\r\na dog, red!\r\n");
    let run = home.generate(&["--prompt-file", &prompts, "-n", "2", "-o", "{index}-{prompt}-{seed}.webp"]).ok();
    assert_eq!(run.lines(), ["0-a-cat-42.webp", "1-a-cat-43.webp", "2-a-dog-red-42.webp", "3-a-dog-red-43.webp"]);
    assert_eq!(metadata(&home.text("2-a-dog-red-42.webp")).prompt, "a dog, red!");
    // A picture of a batch is the picture that the same seed and prompt give alone.
    home.generate(&["a dog, red!", "-o", "alone.webp"]).ok();
    assert!(fs::read(home.path("alone.webp")).unwrap() == fs::read(home.path("2-a-dog-red-42.webp")).unwrap());
}

#[test]
fn prompts_come_from_stdin() {
    let home = Home::new();
    let model = tiny();
    let args = [
        "generate",
        "-m",
        &model,
        "--width",
        "16",
        "--height",
        "16",
        "--steps",
        "1",
        "--prompt-file",
        "-",
        "-o",
        "{prompt}.png",
    ];
    let mut child =
        home.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo").unwrap();
    let run = Run::of(child.wait_with_output().unwrap()).ok();
    assert_eq!(run.lines(), ["one.png", "two.png"]);
}

#[test]
fn every_format_carries_how_the_picture_was_made() {
    let home = Home::new();
    let image = golden("pipeline/colours-80x64.png").display().to_string();
    let mask = golden("pipeline/mask-80x64.png").display().to_string();
    for name in ["a.png", "a.jpg", "a.webp"] {
        home.generate(&["a cat", "--guidance", "1.5", "--negative", "dark", "--shift", "2.5", "-o", name]).ok();
        let found = metadata(&home.text(name));
        assert_eq!((found.prompt.as_str(), found.negative_prompt.as_str()), ("a cat", "dark"));
        assert_eq!((found.guidance, found.shift, found.steps, found.seed), (1.5, 2.5, 2, 42));
        assert_eq!((found.model.as_str(), found.task), ("tiny-a", TaskRecord::TextToImage));
        let parts: Vec<&str> = found.files.iter().flat_map(|file| &file.parts).map(String::as_str).collect();
        assert_eq!(parts, ["transformer", "text encoder", "VAE", "tokenizer"]);
        let file = found.files.iter().find(|file| file.path == "vae/diffusion_pytorch_model.safetensors").unwrap();
        assert_eq!(file.sha256, sha256_file(&golden("models/tiny-a").join(&file.path)).unwrap());
    }
    home.generate(&["x", "--init-image", &image, "--mask", &mask, "--strength", "0.5", "-o", "c.png"]).ok();
    let TaskRecord::Inpaint { init_image_sha256, mask_sha256, strength } = metadata(&home.text("c.png")).task else {
        panic!("another task")
    };
    assert_eq!(init_image_sha256, sha256_file(image.as_ref()).unwrap());
    assert_eq!(mask_sha256, sha256_file(mask.as_ref()).unwrap());
    assert_eq!(strength, 0.5);
}

#[test]
fn the_shift_acts() {
    let home = Home::new();
    home.generate(&["a cat", "-o", "a.png"]).ok();
    home.generate(&["a cat", "-o", "b.png", "--shift", "6"]).ok();
    let [a, b] = ["a.png", "b.png"].map(|name| InitImage::open(&home.path(name)).unwrap());
    assert_ne!(a.image(), b.image());
}

#[test]
fn step_caching_acts_and_is_recorded() {
    let home = Home::new();
    let model = tiny();
    let made = |name: &str, flags: &[&str]| {
        let fixed = ["generate", "-m", &model, "--width", "64", "--height", "48", "--steps", "9", "--seed", "42"];
        home.run(&[&fixed[..], &["a cat", "-o", name], flags].concat()).ok();
        InitImage::open(&home.path(name)).unwrap()
    };
    let (plain, none) = (made("plain.png", &[]), made("none.png", &["--cache", "none"]));
    assert_eq!(plain.image(), none.image());
    assert!(fs::read(home.path("plain.png")).unwrap() == fs::read(home.path("none.png")).unwrap());
    for cache in ["slow", "medium", "fast"] {
        let name = format!("{cache}.png");
        assert_ne!(made(&name, &["--cache", cache]).image(), plain.image(), "{cache}");
        assert_eq!(metadata(&home.text(&name)).cache.to_string(), cache);
        let inspected = home.run(&["inspect", &name]).ok().stdout;
        assert!(inspected.contains(&format!("\"cache\": \"{cache}\"")), "{inspected}");
    }
    assert!(!home.run(&["inspect", "plain.png"]).ok().stdout.contains("cache"));

    // A setting does the same.
    home.write("config.toml", "cache = 'fast'");
    assert_eq!(made("set.png", &[]).image(), InitImage::open(&home.path("fast.png")).unwrap().image());
    assert_eq!(made("unset.png", &["--cache", "none"]).image(), plain.image());
}

#[test]
fn the_plan_of_a_cached_run_is_shorter() {
    let home = Home::new();
    let model = tiny();
    let args = ["plan", "-m", &model, "--width", "64", "--height", "48", "--steps", "9", "x"];
    let plan = |flags: &[&str]| -> Value {
        serde_json::from_str(&home.run(&[&args[..], &["--json"], flags].concat()).ok().stdout).unwrap()
    };
    let seconds = |plan: &Value| plan["phases"][1]["seconds"].as_f64().unwrap();
    home.generate(&["x", "-o", "a.png"]).ok(); // the speeds that all plans are made with
    let (none, fast) = (plan(&[]), plan(&["--cache", "fast"]));
    assert_eq!((&none["cache"], &none["computed_steps"]), (&"none".into(), &9.into()));
    assert_eq!((&fast["cache"], &fast["computed_steps"]), (&"fast".into(), &5.into()));
    assert!(seconds(&fast) < seconds(&none), "{fast}");
    let table = home.run(&[&args[..], &["--cache", "fast"]].concat()).ok().stdout;
    assert!(table.contains("step caching: 5 of 9 steps run the main layers"), "{table}");
    assert!(!home.run(&args).ok().stdout.contains("caching"));
}

#[test]
fn latents_are_saved_under_their_key() {
    let home = Home::new();
    home.generate(&["a cat", "-o", "a.png", "--save-latents", "l-{seed}.safetensors", "-n", "2"]).ok();
    home.generate(&["a cat", "-o", "a.png", "--save-latents", "l-{seed}.safetensors"]).ok();
    for name in ["l-42.safetensors", "l-43.safetensors", "l-42-1.safetensors"] {
        let latents = Container::open(&home.path(name)).unwrap().tensor("latents").unwrap();
        assert_eq!((latents.shape, latents.data.len()), (vec![1, 16, 6, 8], 16 * 6 * 8 * 4), "{name}");
    }
}

#[test]
fn the_size_follows_the_init_image() {
    let home = Home::new();
    let (model, image) = (tiny(), golden("pipeline/colours-90x70.png").display().to_string());
    let args = ["generate", "-m", &model, "--steps", "2", "--seed", "1", "x", "--init-image", &image, "-o", "a.png"];
    home.run(&args).ok();
    let found = metadata(&home.text("a.png"));
    assert_eq!((found.width, found.height), (80, 64));
}

#[test]
fn digests_are_remembered_until_a_file_changes() {
    let home = Home::new();
    let model = home.copy_of_tiny("models/mine");
    let cache = || fs::read_to_string(home.path("cache/digests.json")).unwrap();
    let run = |name: &str| {
        let args = ["generate", "-m", "mine", "--width", "16", "--height", "16", "--steps", "1", "x", "-o", name];
        home.run(&args).ok();
        metadata(&home.text(name)).files
    };
    let first = run("a.png");
    // A remembered digest is believed.
    let vae = first.iter().find(|file| file.path.starts_with("vae/")).unwrap().sha256.clone();
    fs::write(home.path("cache/digests.json"), cache().replace(&vae, &"0".repeat(64))).unwrap();
    assert!(run("b.png").iter().any(|file| file.sha256 == "0".repeat(64)));
    // A file with another time is read again, and a damaged cache is no obstacle.
    let path = model.join("vae/diffusion_pytorch_model.safetensors");
    fs::File::options().append(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(run("c.png"), first);
    fs::write(home.path("cache/digests.json"), "{").unwrap();
    assert_eq!(run("d.png"), first);
    assert!(cache().contains(&vae));
}

#[test]
fn the_demo_model_needs_no_files() {
    let home = Home::new();
    let run = home.run(&["generate", "a red circle", "--steps", "1", "--seed", "1", "-o", "demo.png", "--json"]).ok();
    assert!(run.stderr.contains("embedded demo model"), "{run:#?}");
    let line: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(line["model"], "embedded demo model");
    assert!(line["width"].as_u64().unwrap() < 1024);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_with_exit_code_5_and_no_file() {
    let home = Home::new();
    let model = tiny();
    let args = [
        "generate", "-m", &model, "--width", "512", "--height", "512", "--steps", "1000", "--seed", "1", "x", "-o",
        "out.png",
    ];
    let child = home.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let run = Run::of(child.wait_with_output().unwrap());
    run.fails(5, "cancelled");
    assert!(home.names().iter().all(|name| name == "cache"), "{:?}", home.names());
}

#[test]
fn the_plan_is_a_table_or_json() {
    let home = Home::new();
    let model = tiny();
    let args = ["plan", "-m", &model, "--width", "64", "--height", "48", "x"];
    let run = home.run(&args).ok();
    for phase in ["encode", "denoise", "decode", "peak"] {
        assert!(run.stdout.contains(phase), "{run:#?}");
    }
    let run = home.run(&[&args[..], &["--json"]].concat()).ok();
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(plan["peak_bytes"].as_u64().unwrap() > 0);
    let phases = plan["phases"].as_array().unwrap();
    assert_eq!(phases.len(), 3);
    assert!(phases.iter().all(|phase| phase["seconds"].as_f64().unwrap() > 0.0), "{plan}");
}

#[test]
fn the_plan_learns_from_the_pictures_that_were_made() {
    let home = Home::new();
    let model = tiny();
    let args = ["plan", "-m", &model, "--width", "64", "--height", "48", "--steps", "2", "x", "--json"];
    home.generate(&["x", "-o", "a.png"]).ok();
    let speeds: Value = serde_json::from_str(&fs::read_to_string(home.path("cache/speed.json")).unwrap()).unwrap();
    let speeds = speeds.as_object().unwrap();
    assert_eq!(speeds.len(), 3, "{speeds:?}");
    let slow: Value = speeds.iter().map(|(name, _)| (name.clone(), Value::from(1.0))).collect();
    home.write("cache/speed.json", slow.to_string());
    let plan: Value = serde_json::from_str(&home.run(&args).ok().stdout).unwrap();
    for phase in plan["phases"].as_array().unwrap() {
        assert_eq!(phase["seconds"], phase["flop"], "one operation a second: {plan}");
    }
}
