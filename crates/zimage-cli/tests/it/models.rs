//! `zimage models`: what each verb prints, keeps and refuses. Pulls are tested where the network is, in the store.

use std::fs;

use serde_json::Value;

use crate::{Home, Run, copy, golden, tiny};

const SMALL: [&str; 10] = ["generate", "x", "--width", "16", "--height", "16", "--steps", "1", "--seed", "1"];

fn json(run: Run) -> Value {
    serde_json::from_str(&run.ok().stdout).unwrap()
}

#[test]
fn an_empty_store_says_how_to_get_a_model() {
    let home = Home::new();
    let run = home.run(&["models", "list"]).ok();
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("zimage models pull Tongyi-MAI/Z-Image-Turbo"));
    assert_eq!(json(home.run(&["models", "list", "--json"])), Value::Array(Vec::new()));
    home.run(&["generate", "-m", "absent", "x"]).fails(3, "zimage models pull Tongyi-MAI/Z-Image-Turbo");
}

#[test]
fn an_imported_model_is_listed_used_by_name_and_removed() {
    let home = Home::new();
    assert_eq!(
        home.run(&["models", "import", &tiny()]).ok().stdout.trim_end(),
        golden("models/tiny-a").canonicalize().unwrap().display().to_string()
    );
    home.copy_of_tiny("models/mine");
    fs::write(home.path("models/broken.safetensors"), "hello").unwrap();
    let run = home.run(&["models", "list"]).ok();
    let rows: Vec<Vec<&str>> = run.lines().iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "DIALECT", "PRECISION", "SIZE", "STATE"]);
    assert_eq!(rows[1][0], "broken.safetensors");
    assert!(run.lines()[1].contains("not a valid safetensors file"), "{run:?}");
    assert_eq!(rows[2], ["mine", "diffusers", "f32", "3.5", "MB", "valid"]);
    assert_eq!(rows[3][0], "tiny-a");

    let listed = json(home.run(&["models", "list", "--json"]));
    assert_eq!(listed[2]["name"], "tiny-a");
    assert_eq!(listed[2]["source"]["kind"], "link");
    assert_eq!((&listed[0]["valid"], &listed[2]["valid"]), (&Value::Bool(false), &Value::Bool(true)));

    let line = json(home.run(&[&SMALL[..], &["-m", "tiny-a", "--json"]].concat()));
    assert_eq!(line["model"], "tiny-a");
    let run = home.run(&["models", "rm", "tiny-a"]).ok();
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("left "), "{run:?}");
    assert!(golden("models/tiny-a/model_index.json").exists());
    home.run(&["models", "rm", "tiny-a"]).fails(3, "`tiny-a`");
    home.run(&["models", "rm", "mine"]).fails(2, "by hand");
}

#[test]
fn the_chosen_model_is_used_unless_a_flag_or_a_setting_says_otherwise() {
    let home = Home::new();
    home.run(&["models", "import", &tiny(), "--name", "a"]).ok();
    home.run(&["models", "import", &tiny(), "--name", "b", "--copy"]).ok();
    home.run(&["models", "use", "a"]).ok();
    assert!(home.run(&["models", "list"]).ok().lines()[1].starts_with("*  a "));
    let args = [&SMALL[..], &["--json"]].concat();
    let model = |run: Run| json(run)["model"].as_str().unwrap().to_owned();
    let run = home.run(&args).ok();
    assert!(run.stderr.contains("model: a"), "{run:?}");
    assert_eq!(model(run), "a");
    assert_eq!(model(Run::of(home.command(&args).env("ZIMAGE_MODEL", "b").output().unwrap())), "b");
    assert_eq!(model(home.run(&[&args[..], &["-m", "b"]].concat())), "b");
    home.write("config.toml", "model = 'b'");
    assert_eq!(model(home.run(&args)), "b");
    assert!(home.run(&["models", "use", "a"]).ok().stderr.contains("says `b`"));
    home.write("config.toml", "");
    home.run(&["models", "use", "demo"]).ok();
    assert!(home.run(&args).ok().stderr.contains("demo model"));
    home.run(&["models", "use", "absent"]).fails(3, "`absent`");
}

#[test]
fn changed_files_are_named_by_verify() {
    let home = Home::new();
    let model = home.copy_of_tiny("elsewhere");
    home.run(&["models", "import", "elsewhere"]).ok();
    let run = home.run(&["models", "verify", "elsewhere"]).ok();
    assert_eq!(run.lines().len(), 10);
    assert!(run.lines().iter().all(|line| line.starts_with("same ")), "{run:?}");
    let vae = model.join("vae/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&vae).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&vae, bytes).unwrap();
    let run = home.run(&["models", "verify", "elsewhere"]);
    assert_eq!(run.code, Some(1));
    let wrong: Vec<&str> = run.lines().into_iter().filter(|line| !line.starts_with("same ")).collect();
    assert!(wrong.len() == 1 && wrong[0].starts_with("differs  vae/diffusion"), "{run:?}");
    home.copy_of_tiny("models/mine");
    home.run(&["models", "verify", "mine"]).fails(2, "by hand");
}

#[test]
fn parts_are_imported_and_what_is_no_part_is_refused() {
    let home = Home::new();
    let vae = golden("models/tiny-a/vae").display().to_string();
    home.run(&["models", "import", &vae, "--name", "ae"]).ok();
    assert!(home.run(&["models", "list"]).ok().stdout.contains("valid, VAE alone"));
    copy(&golden("README.md"), &home.path("notes.safetensors"));
    home.run(&["models", "import", "notes.safetensors"]).fails(3, "notes.safetensors");
    home.run(&["models", "import", "absent"]).fails(3, "absent");
    home.run(&["models", "import", &vae, "--name", "a/b"]).fails(2, "a/b");
    home.run(&["models", "import", &vae, "--name", "demo"]).fails(2, "demo");
    home.run(&["models", "import", &tiny(), "--name", "ae"]).fails(2, "already");
}

#[test]
fn pulls_that_cannot_begin_say_why() {
    let home = Home::new();
    home.run(&["models", "pull", "Z-Image-Turbo"]).fails(2, "ORGANIZATION/NAME");
    let offline = |repo: &str| {
        let cache = home.text("hub");
        let mut command = home.command(&["models", "pull", repo]);
        Run::of(command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", cache).output().unwrap())
    };
    offline("Tongyi-MAI/Z-Image-Turbo").fails(1, "HF_HUB_OFFLINE");
    assert_eq!(home.names(), [""; 0]);
}
