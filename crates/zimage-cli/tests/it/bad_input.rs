//! Every way in which a command can be refused: exit code and message.

use std::fs;
use std::path::Path;

use crate::{Home, golden, tiny};

#[test]
fn wrong_usage_is_exit_code_2() {
    let home = Home::new();
    for (args, fragment) in [
        (&["generate"][..], "there is no prompt"),
        (&["generat", "x"], "generat"),
        (&["generate", "x", "--nonsense"], "--nonsense"),
        (&["generate", "x", "--prompt-file", "y"], "cannot be used with"),
        (&["generate", "x", "--width", "big"], "--width"),
        (&["generate", "x", "--width", "64", "--aspect", "1:1"], "cannot be used with"),
        (&["generate", "x", "--aspect", "wide"], "two positive numbers"),
        (&["generate", "x", "--seed", "-1"], "-1"),
        (&["generate", "x", "--seed", "18446744073709551616"], "--seed"),
        (&["generate", "x", "-n", "0"], "0"),
        (&["generate", "x", "--threads", "0"], "0"),
        (&["generate", "x", "--mem", "lots"], "expected a size"),
        (&["generate", "x", "--device", "abacus"], "expected auto"),
        (&["generate", "x", "--compute", "fuzzy"], "expected auto"),
        (&["generate", "x", "--cache", "turbo"], "expected one of none, slow, medium, fast"),
        (&["generate", "x", "--mask", "m.png"], "--init-image"),
        (&["generate", "x", "--strength", "0.5"], "--init-image"),
        (&["generate", "x", "-q", "-v"], "cannot be used with"),
    ] {
        home.run(args).fails(2, fragment);
    }
    assert_eq!(home.run(&[]).code, Some(2));
}

#[test]
fn refused_values_are_exit_code_2_with_a_hint() {
    let home = Home::new();
    let model = tiny();
    for (args, fragment) in [
        (&["--width", "100"][..], "96 and 112"),
        (&["--height", "7"], "16"),
        (&["--width", "0"], "width 0"),
        (&["--width", "4294967280"], "larger than any model"),
        (&["--steps", "0"], "0 steps"),
        (&["--steps", "1001"], "1001 steps"),
        (&["--guidance", "-1"], "guidance -1"),
        (&["--guidance", "nan"], "guidance NaN"),
        (&["--guidance", "inf"], "guidance inf"),
        (&["--shift", "0"], "shift 0"),
        (&["--shift", "-3"], "shift -3"),
        (&["--cfg-normalization", "-0.5"], "-0.5"),
        (&["--cfg-truncation", "nan"], "NaN"),
        (&["--base", "0"], "--base 0"),
        (&["--threads", "5000"], "5000 threads"),
        (&["-o", "out.gif"], "out.gif"),
        (&["-o", "out"], ".png"),
        (&["-o", "{sed}.png"], "{sed}"),
        (&["--save-latents", "{x}"], "{x}"),
    ] {
        let run = home.run(&[&["generate", "-m", &model, "x"], args].concat()).fails(2, fragment);
        assert!(run.stderr.contains("hint: "), "{run:#?}");
    }
    assert!(home.names().is_empty(), "something was written: {:?}", home.names());
}

#[test]
fn flags_of_later_builds_are_refused_by_name() {
    let home = Home::new();
    for (args, name) in [
        (&["--control-model", "x"][..], "--control-model"),
        (&["--control-image", "x.png"], "--control-image"),
        (&["--control-scale", "0.5"], "--control-scale"),
        (&["--enhance"], "--enhance"),
        (&["--show"], "--show"),
    ] {
        let run = home.generate(&[&["x"], args].concat());
        run.fails(2, &format!("{name} is not in this build"));
    }
}

#[test]
fn bad_pictures_are_refused_before_any_work() {
    let home = Home::new();
    let png = fs::read(golden("pipeline/colours-80x64.png")).unwrap();
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]); // 60000 x 60000
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    for (name, bytes, fragment) in [
        ("huge.png", &huge[..], "60000x60000"),
        ("cut.png", &png[..png.len() / 2], "cut.png cannot be decoded"),
        ("header.png", &png[..33], "header.png cannot be decoded"),
        ("text.png", b"no picture", "text.png is not a PNG, JPEG or WebP image"),
        ("empty.png", b"", "empty.png is not a PNG, JPEG or WebP image"),
    ] {
        let path = home.write(name, bytes);
        home.generate(&["x", "--init-image", &path]).fails(2, fragment);
        let good = golden("pipeline/colours-80x64.png").display().to_string();
        home.generate(&["x", "--init-image", &good, "--mask", &path]).fails(2, fragment);
    }
    home.generate(&["x", "--init-image", "absent.png"]).fails(2, "absent.png");
    home.generate(&["x", "--init-image", "."]).fails(2, ".");
}

#[test]
fn impossible_strengths_are_refused() {
    let home = Home::new();
    let image = golden("pipeline/colours-80x64.png").display().to_string();
    for (strength, fragment) in [
        ("1.5", "strength 1.5"),
        ("-0.1", "strength -0.1"),
        ("nan", "strength NaN"),
        ("0", "leaves none of the 2 steps"),
    ] {
        home.generate(&["x", "--init-image", &image, "--strength", strength]).fails(2, fragment);
    }
}

#[test]
fn bad_prompt_files_are_refused() {
    let home = Home::new();
    let blank = home.write("blank.txt", "\n  \n");
    let latin = home.write("latin.txt", b"caf\xe9\n");
    home.generate(&["--prompt-file", &blank]).fails(2, "holds no prompts");
    home.generate(&["--prompt-file", &latin]).fails(2, "latin.txt");
    home.generate(&["--prompt-file", "absent.txt"]).fails(2, "absent.txt");
    home.generate(&["--prompt-file", "-"]).fails(2, "- holds no prompts");
}

#[test]
fn models_that_are_not_there_are_exit_code_3() {
    let home = Home::new();
    for name in ["absent", "./absent", "/absent/model", "..x", ""] {
        home.run(&["generate", "-m", name, "x"]).fails(3, &format!("`{name}`"));
    }
    home.copy_of_tiny("models/mine");
    home.run(&["generate", "-m", "yours", "x"]).fails(3, "installed are mine");
}

/// What is done to a copy of a good model.
type Damage = fn(&Path);

#[test]
fn damaged_models_are_exit_code_3_and_name_the_file() {
    let damages: [(&str, &str, Damage); 10] = [
        ("no config", "transformer/config.json", |m| fs::remove_file(m.join("transformer/config.json")).unwrap()),
        ("no tokenizer", "tokenizer", |model| fs::remove_dir_all(model.join("tokenizer")).unwrap()),
        ("no vae", "vae", |model| fs::remove_dir_all(model.join("vae")).unwrap()),
        ("another class", "Flux", |m| edit(&m.join("model_index.json"), "ZImagePipeline", "FluxPipeline")),
        ("bad json", "config.json", |m| fs::write(m.join("vae/config.json"), "{").unwrap()),
        ("bad tokenizer", "tokenizer", |m| fs::write(m.join("tokenizer/tokenizer.json"), "{}").unwrap()),
        ("another scheduler", "DDIM", |m| {
            edit(&m.join("scheduler/scheduler_config.json"), "FlowMatchEulerDiscreteScheduler", "DDIMScheduler");
        }),
        ("cut weights", "safetensors", |m| {
            let path = m.join("transformer/diffusion_pytorch_model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("foreign weights", "safetensors", |m| {
            fs::write(m.join("vae/diffusion_pytorch_model.safetensors"), b"PK\x03\x04 a zip").unwrap();
        }),
        ("another width", "transformer", |m| edit(&m.join("transformer/config.json"), "\"dim\": 64", "\"dim\": 128")),
    ];
    for (name, fragment, damage) in damages {
        let home = Home::new();
        let model = home.copy_of_tiny("model");
        damage(&model);
        let model = model.display().to_string();
        eprintln!("{name}");
        home.run(&["generate", "-m", &model, "--width", "64", "--height", "48", "x"]).fails(3, fragment);
        let doctor = home.run(&["doctor", &model]);
        assert!([Some(1), Some(3)].contains(&doctor.code), "{name}: {doctor:#?}");
    }
}

#[test]
fn weights_that_are_not_numbers_stop_the_run_and_name_the_layer() {
    for (file, stage) in [
        ("text_encoder/model.safetensors", "text encoder"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer"),
        ("vae/diffusion_pytorch_model.safetensors", "vae decoder"),
    ] {
        let home = Home::new();
        let model = home.copy_of_tiny("model");
        let mut bytes = fs::read(model.join(file)).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for value in bytes[8 + header..].chunks_exact_mut(4) {
            value.copy_from_slice(&f32::NAN.to_le_bytes());
        }
        fs::write(model.join(file), bytes).unwrap();
        let model = model.display().to_string();
        let run = home.run(&["generate", "-m", &model, "--width", "64", "--height", "48", "-o", "x.png", "x"]);
        run.fails(1, &format!("{stage} produced a value that is not finite, first in "));
        assert!(!home.names().iter().any(|name| name.ends_with(".png")), "{stage}: {:?}", home.names());
    }
}

#[test]
fn a_file_instead_of_a_directory_is_exit_code_3() {
    let home = Home::new();
    let file = home.write("x.safetensors", b"not safetensors");
    home.run(&["generate", "-m", &file, "x"]).fails(3, "x.safetensors");
}

#[test]
fn too_little_memory_is_exit_code_4() {
    let home = Home::new();
    let run = home.generate(&["x", "--mem", "1K"]).fails(4, "memory");
    assert!(run.stderr.contains("hint: "), "{run:#?}");
    assert!(home.names().is_empty());
    let model = tiny();
    home.run(&["plan", "-m", &model, "--width", "64", "--height", "48", "--mem", "1K", "x"]).fails(4, "memory");
}

#[test]
fn places_that_cannot_be_written_are_refused_before_any_work() {
    let home = Home::new();
    let file = home.write("file", b"");
    home.generate(&["x", "-o", &format!("{file}/out.png")]).fails(2, "cannot write in");
    home.generate(&["x", "--save-latents", &format!("{file}/l.safetensors")]).fails(2, "cannot write in");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} does not contain {from}", path.display());
    fs::write(path, text.replace(from, to)).unwrap();
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
