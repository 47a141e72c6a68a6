//! `convert`, `merge` and `lora fuse`: what is written draws what it was made of, and nothing else is touched.

use std::fs;
use std::path::Path;

use zimage::pipeline::image::InitImage;

use crate::{Home, Run, copy, tiny};

fn asset(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets").join(path).display().to_string()
}

fn demo() -> String {
    asset("demo")
}

/// The pixels of one prompt and seed.
fn draw(home: &Home, model: &str, args: &[&str]) -> Vec<u8> {
    let name = format!("{}.png", Path::new(model).file_name().unwrap().to_string_lossy());
    let fixed = ["generate", "a red house in a meadow", "--seed", "5", "-m", model, "-o", &name];
    // Small and few, for the sake of time.
    let small = ["--width", "128", "--height", "128", "--steps", "4"];
    let run = home.run(&[&fixed[..], &small, args].concat()).ok();
    InitImage::open(&home.path(run.lines()[0])).unwrap().image().pixels().to_vec()
}

fn correlation(a: &[u8], b: &[u8]) -> f64 {
    let mean = |values: &[u8]| values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sums = a.iter().zip(b).fold([0.0; 3], |[ab, aa, bb], (a, b)| {
        let (a, b) = (f64::from(*a) - mean_a, f64::from(*b) - mean_b);
        [ab + a * b, aa + a * a, bb + b * b]
    });
    sums[0] / (sums[1] * sums[2]).sqrt()
}

fn convert(home: &Home, source: &str, destination: &str, args: &[&str]) -> Run {
    let run = home.run(&[&["convert", source, destination], args].concat()).ok();
    assert_eq!(run.stdout, format!("{destination}\n"));
    run
}

#[test]
fn every_layout_of_the_demo_model_draws_the_same_pixels() {
    let home = Home::new();
    let picture = draw(&home, &demo(), &[]);
    let layouts =
        [("diffusers", "d"), ("mlx", "m"), ("comfyui", "c.safetensors"), ("comfyui-split", "s"), ("gguf", "g")];
    let mut source = demo();
    for (layout, name) in layouts {
        // Each is made of the one before.
        let run = convert(&home, &source, name, &["--to", layout, "--verify"]);
        assert!(run.stderr.contains("verified: all 359 tensors"), "{layout}: {run:#?}");
        assert!(draw(&home, name, &[]) == picture, "{layout}");
        source = name.to_owned();
    }
}

#[test]
fn quantized_models_draw_nearly_the_same_picture() {
    let home = Home::new();
    let picture = draw(&home, &demo(), &[]);
    let cases = [("mlx", "int8", 0.99), ("gguf", "q8_0", 0.99), ("mlx", "int4", 0.95), ("gguf", "q4_0", 0.95)];
    for (layout, precision, least) in cases {
        let run = convert(&home, &demo(), precision, &["--to", layout, "--precision", precision, "--verify"]);
        assert!(run.stderr.contains("are its values rounded"), "{run:#?}");
        let found = correlation(&picture, &draw(&home, precision, &[]));
        println!("{precision}: correlation {found:.5}");
        assert!(found > least, "{precision}: {found}");
    }
    // A quantized model becomes one of another format.
    let run = convert(&home, "int4", "again", &["--to", "gguf", "--precision", "q4_0"]);
    assert!(run.stderr.contains("transformer: 63 tensors in q4_0"), "{run:#?}");
    assert!(correlation(&picture, &draw(&home, "again", &[])) > 0.95);
    // Rows of 192 values have no blocks of 256, and that is said.
    let run = convert(&home, &demo(), "k", &["--to", "gguf", "--precision", "q4_k"]);
    assert!(run.stderr.contains("8 tensors in q4_k") && run.stderr.contains("61 tensors in bf16"), "{run:#?}");
}

#[test]
fn a_fused_lora_draws_what_a_live_one_draws() {
    let home = Home::new();
    let night = format!("{}:0.8", asset("demo-loras/night.safetensors"));
    let live = draw(&home, &demo(), &["--lora", &night]);
    let run = home.run(&["lora", "fuse", &demo(), "fused", "--lora", &night, "--to", "mlx", "--verify"]).ok();
    for fragment in
        ["lora night: weight 0.8, 56 layers", "recommends the weight 1", "trigger words moonlit", "verified"]
    {
        assert!(run.stderr.contains(fragment), "{fragment}: {run:#?}");
    }
    let found = correlation(&live, &draw(&home, "fused", &[]));
    assert!(found > 0.999, "{found}");
    // Files in one folder do not share what is told of them.
    for name in ["a", "b"] {
        home.run(&["lora", "fuse", &demo(), &format!("{name}.safetensors"), "--lora", &night, "--to", "comfyui"]).ok();
        assert!(home.path(&format!("{name}.lora_fusion_info.json")).is_file());
    }
    let merged = ["merge", &demo(), "fused", &demo(), "m", "--method", "add-difference", "--to", "gguf"];
    home.run(&merged).ok();
    assert!(draw(&home, "m", &[]) == draw(&home, "fused", &[]));
}

#[test]
fn a_model_merged_with_itself_is_itself() {
    let home = Home::new();
    let model = demo();
    convert(&home, &model, "same", &["--to", "diffusers"]);
    convert(&home, &model, "split", &["--to", "comfyui-split"]);
    // Of B only the transformer is needed.
    fs::rename(home.path("split/diffusion_models/z_image.safetensors"), home.path("z.safetensors")).unwrap();
    let run = home.run(&["merge", &model, "z.safetensors", "merged", "--alpha", "0.3", "--to", "diffusers"]).ok();
    assert!(run.stderr.contains("transformer: z.safetensors") && !run.stderr.contains("VAE: z"), "{run:#?}");
    let weights =
        |name: &str| fs::read(home.path(name).join("transformer/diffusion_pytorch_model.safetensors")).unwrap();
    assert!(weights("same") == weights("merged"));
    // A may be a part too, with the others beside it.
    let parts = ["--text-encoder", &model, "--vae", &model, "--tokenizer", &model];
    home.run(&[&["merge", "z.safetensors", "z.safetensors", "m2", "--to", "diffusers"], &parts[..]].concat()).ok();
}

#[test]
fn models_that_do_not_go_together_are_not_merged() {
    let home = Home::new();
    let (model, other) = (demo(), tiny());
    let merge = |args: &[&str]| home.run(&[&["merge", &model], args, &["--to", "diffusers"]].concat());
    let run = merge(&[&other, "m"]).fails(2, "its transformer has other sizes");
    assert!(run.stderr.contains("\nhint: "), "{run:#?}");
    merge(&[&model, "m", "--alpha", "nan"]).fails(2, "NaN is no number to mix by");
    merge(&[&model, "m", "--alpha", "0.1,0.2"]).fails(2, "there are 2 models and 2 weights");
    merge(&[&model, "m", "--method", "add-difference"]).fails(2, "three models A, B, C");
    merge(&["m"]).fails(2, "<A> <B> <DESTINATION>");
    convert(&home, &model, "q", &["--to", "gguf", "--precision", "q8_0"]);
    merge(&["q", "m"]).fails(2, "hint: give an unquantized model, or --dequantize");
    merge(&["q", "m", "--dequantize"]).ok();
}

#[test]
fn force_replaces_a_model_and_nothing_else() {
    let home = Home::new();
    let refused = |args: &[&str], fragment: &str| {
        home.run(&[&["convert", &tiny()], args].concat()).fails(2, fragment);
    };
    fs::create_dir_all(home.path("papers/inner")).unwrap();
    home.write("papers/letter.txt", "dear");
    refused(&["papers", "--to", "mlx"], "papers exists");
    refused(&["papers", "--to", "mlx", "--force"], "it holds more than a model");
    refused(&["papers", "--to", "comfyui", "--force"], "this layout is one file");
    refused(&["new/", "--to", "comfyui"], "this layout is one file");
    for place in [".", "..", "/"] {
        refused(&[place, "--to", "mlx", "--force"], "it has no name of its own");
    }
    assert_eq!(home.names(), ["papers"]);
    assert_eq!(fs::read_to_string(home.path("papers/letter.txt")).unwrap(), "dear");
    // A model in a directory that would be replaced by it goes with the rest of that directory.
    copy(tiny().as_ref(), &home.path("papers/inner/model"));
    home.run(&["convert", "papers/inner/model", "papers", "--to", "mlx", "--force"]).fails(2, "more than a model");
    // A model takes its own place, in another layout.
    home.copy_of_tiny("model");
    convert(&home, "model", "model", &["--to", "mlx", "--force"]);
    assert!(home.path("model/weights.safetensors").is_file() && !home.path("model/transformer").exists());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", home.path("link")).unwrap();
        refused(&["link", "--to", "mlx"], "link exists");
        fs::remove_file(home.path("link")).unwrap();
    }
    assert_eq!(home.names(), ["model", "papers"]);
}

#[test]
fn flags_that_would_do_nothing_are_refused() {
    let home = Home::new();
    let refused = |args: &[&str], fragment: &str| {
        home.run(&[&["convert", &tiny(), "x"], args].concat()).fails(2, fragment);
    };
    refused(&["--to", "gguf", "--precision", "q8_0", "--group-size", "32"], "--group-size does nothing");
    refused(
        &["--to", "mlx", "--quantize-text-encoder"],
        "--quantize-text-encoder does nothing with the precision keep",
    );
    refused(&["--to", "mlx", "--precision", "f32", "--quantize-embedders"], "--quantize-embedders does nothing");
    refused(&["--to", "diffusers", "--precision", "int8"], "diffusers files cannot hold int8");
    refused(&["--to", "mlx", "--precision", "int7"], "expected one of keep");
    assert!(home.names().is_empty());
}

#[test]
fn weights_that_an_installed_file_lends_are_no_tokenizer() {
    let home = Home::new();
    convert(&home, &demo(), "split", &["--to", "comfyui-split"]);
    fs::create_dir(home.path("models")).unwrap();
    for (from, to) in [("vae/ae", "a-vae"), ("text_encoders/qwen_3_4b", "b-text"), ("diffusion_models/z_image", "../z")]
    {
        let to = home.path("models").join(format!("{to}.safetensors"));
        fs::rename(home.path(&format!("split/{from}.safetensors")), to).unwrap();
    }
    let run = home.run(&["generate", "x", "-m", "z.safetensors"]).fails(3, "missing: the tokenizer");
    assert!(run.stderr.contains("--tokenizer PATH"), "{run:#?}");
}
