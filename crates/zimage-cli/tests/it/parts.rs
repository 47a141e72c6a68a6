//! Models as ComfyUI stores them, whole and in parts, draw what the directory they were made of draws.

use std::fs;
use std::path::Path;

use zimage::pipeline::image::InitImage;
use zimage::pipeline::metadata::{Embedded, FileRecord};
use zimage_weights::container::{Metadata, TensorSource, write_safetensors};
use zimage_weights::dialect::{comfyui, layout};
use zimage_weights::digest::sha256_file;
use zimage_weights::{Checkpoint, Component, Dtype};

use crate::{Home, Run, golden, tiny};

/// Writes parts of the tiny model into one file in the names of ComfyUI, each after its prefix.
fn write_comfyui(path: &Path, parts: &[(Component, &str)]) {
    let checkpoint = Checkpoint::open(&golden("models/tiny-a")).unwrap();
    let mut tensors = Vec::new();
    for (component, prefix) in parts {
        let weights = checkpoint.weights(*component).unwrap();
        for tensor in layout(&comfyui::rules(*component, checkpoint.vae_config().into()), &checkpoint.specs(*component))
        {
            let views: Vec<_> = tensor.made_of.iter().map(|name| weights.tensor(name).unwrap()).collect();
            let name = format!("{prefix}{}", tensor.name);
            tensors.push(TensorSource::new(name, Dtype::F32, &tensor.shape, move |out| {
                views.iter().try_for_each(|view| out.write_all(&view.bytes().expect("a float")))
            }));
        }
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_safetensors(path, &Metadata::new(), tensors).unwrap();
}

/// The tiny model's heads and groups are not those of the real one, so its files need their configs.
fn copy_config(component: Component, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(golden("models/tiny-a").join(component.config_file()), to).unwrap();
}

const SETTINGS: [&str; 8] = ["--width", "64", "--height", "48", "--steps", "2", "--seed", "42"];

/// `a cat` of some model, to `<name>.png`, with the latents beside it.
fn draw(home: &Home, name: &str, model: &[&str]) -> Run {
    let (picture, latents) = (format!("{name}.png"), format!("{name}.safetensors"));
    let output = ["a cat", "-o", &picture, "--save-latents", &latents];
    home.run(&[&["generate"], model, &SETTINGS, &output].concat()).ok()
}

#[track_caller]
fn same(home: &Home, a: &str, b: &str) {
    let pixels = |name: &str| InitImage::open(&home.path(&format!("{name}.png"))).unwrap();
    assert_eq!(pixels(a).image(), pixels(b).image());
    let latents = |name: &str| fs::read(home.path(&format!("{name}.safetensors"))).unwrap();
    assert!(latents(a) == latents(b));
}

fn files(home: &Home, name: &str) -> Vec<FileRecord> {
    let embedded = Embedded::from_image_file(&home.path(&format!("{name}.png"))).unwrap().unwrap();
    embedded.metadata.unwrap().files
}

/// All parts in `<home>/models/all.safetensors`, with everything that it needs beside it.
fn all_in_one(home: &Home) -> String {
    let path = home.path("models/all.safetensors");
    let parts = [
        (Component::Transformer, "model.diffusion_model."),
        (Component::TextEncoder, "text_encoders.qwen3_4b.transformer.model."),
        (Component::Vae, "vae."),
    ];
    write_comfyui(&path, &parts);
    for component in Component::ALL {
        copy_config(component, &home.path("models").join(component.config_file()));
    }
    fs::copy(golden("models/tiny-a/tokenizer/tokenizer.json"), home.path("models/tokenizer.json")).unwrap();
    path.display().to_string()
}

#[test]
fn one_file_draws_the_same_picture_as_the_directory() {
    let home = Home::new();
    let file = all_in_one(&home);
    draw(&home, "directory", &["-m", &tiny()]);
    let run = draw(&home, "file", &["-m", &file]);
    same(&home, "directory", "file");
    for fragment in ["transformer: ", "(names of ComfyUI; config ", "tokenizer: ", "scheduler: shift 3, the default"] {
        assert!(run.stderr.contains(fragment), "{fragment}: {run:#?}");
    }
    let record = |path: &str, file: &Path, parts: &[&str]| FileRecord {
        path: path.into(),
        sha256: sha256_file(file).unwrap(),
        parts: parts.iter().map(|part| part.to_string()).collect(),
    };
    let tokenizer = home.path("models/tokenizer.json");
    let expected = [
        record("models/all.safetensors", file.as_ref(), &["transformer", "text encoder", "VAE"]),
        record("models/tokenizer.json", &tokenizer, &["tokenizer"]),
    ];
    assert_eq!(files(&home, "file"), expected);
    // An installed file is found by its name.
    draw(&home, "named", &["-m", "all.safetensors"]);
    same(&home, "directory", "named");

    let run = home.run(&["doctor", &file]).ok();
    for fragment in ["supported  yes", "transformer: 101 of 101", "usable: yes"] {
        assert!(run.stdout.contains(fragment), "{fragment}: {run:#?}");
    }
}

#[test]
fn split_files_draw_the_same_picture_as_the_directory() {
    let home = Home::new();
    let parts = [
        (Component::Transformer, "diffusion_models", "z_image_turbo.safetensors", ""),
        (Component::TextEncoder, "text_encoders", "qwen_3_4b.safetensors", "model."),
        (Component::Vae, "vae", "ae.safetensors", ""),
    ];
    let [transformer, text_encoder, vae] = parts.map(|(component, folder, file, prefix)| {
        let path = home.path(folder).join(file);
        write_comfyui(&path, &[(component, prefix)]);
        copy_config(component, &path.with_file_name("config.json"));
        path.display().to_string()
    });
    let tokenizer = golden("models/tiny-a/tokenizer/tokenizer.json").display().to_string();
    let flags = ["--text-encoder", &text_encoder, "--vae", &vae, "--tokenizer", &tokenizer];
    draw(&home, "directory", &["-m", &tiny()]);
    draw(&home, "split", &[&["-m", &transformer], &flags[..]].concat());
    same(&home, "directory", "split");
    let paths: Vec<String> = files(&home, "split").into_iter().map(|file| file.path).collect();
    let expected = ["diffusion_models/z_image_turbo.safetensors", "text_encoders/qwen_3_4b.safetensors"];
    assert_eq!(paths, [&expected[..], &["vae/ae.safetensors", "tokenizer/tokenizer.json"]].concat());

    // The parts of a model directory, and one of them from elsewhere.
    draw(&home, "mixed", &["-m", &tiny(), "--vae", &vae]);
    same(&home, "directory", "mixed");
    let paths: Vec<String> = files(&home, "mixed").into_iter().map(|file| file.path).collect();
    assert_eq!(paths[0], "transformer/diffusion_pytorch_model.safetensors");
    assert_eq!(paths[2], "vae/ae.safetensors");

    // Settings name the companions of every model file.
    let settings = format!("text_encoder = '{text_encoder}'\nvae = '{vae}'\ntokenizer = '{}'\n", tiny());
    home.write("config.toml", settings);
    draw(&home, "settings", &["-m", &transformer]);
    same(&home, "directory", "settings");
    let plan = home.run(&[&["plan", "-m", &transformer, "x"], &SETTINGS[..]].concat()).ok();
    assert!(plan.stdout.contains("peak"), "{plan:#?}");
}

#[test]
fn parts_that_are_missing_or_wrong_are_refused_with_their_flags() {
    let home = Home::new();
    let path = home.path("x/z.safetensors");
    write_comfyui(&path, &[(Component::Transformer, "")]);
    let file = path.display().to_string();
    let run = home.run(&["generate", "-m", &file, "x"]).fails(3, "the text encoder, the VAE, the tokenizer");
    assert!(run.stderr.contains("--text-encoder PATH --vae PATH --tokenizer PATH"), "{run:#?}");
    let model = tiny();
    let whole = ["generate", "-m", &file, "x", "--text-encoder", &model, "--vae", &model, "--tokenizer", &model];
    home.run(&whole).fails(3, "it has 32 numbers per attention head, and only 128 are known");
    home.run(&["generate", "-m", &model, "x", "--vae", &file]).fails(3, "it has no VAE");
    home.run(&["generate", "-m", &model, "x", "--tokenizer", "absent"]).fails(3, "absent");
    home.run(&["generate", "x", "--vae", &model]).fails(2, "no model that they belong to");
    copy_config(Component::Transformer, &path.with_file_name("config.json"));
    let run = home.run(&["doctor", &file]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    for fragment in ["supported  yes", "transformer: 101 of 101 tensors matched", "missing: the text encoder"] {
        assert!(run.stdout.contains(fragment), "{fragment}: {run:#?}");
    }
}
