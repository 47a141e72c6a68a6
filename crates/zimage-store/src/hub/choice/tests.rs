use super::{RemoteFile, choose};
use crate::Error;
use crate::hub::listing::BlobId;

fn choice(repo: &str, paths: &[&str]) -> Result<Vec<String>, Error> {
    let file = |path: &&str| RemoteFile { path: path.to_string(), size: 1, id: BlobId::Git("0".repeat(40)) };
    let files = paths.iter().map(file).collect();
    let choice = choose(files, &repo.parse().unwrap(), "https://hub")?;
    assert_eq!(choice.wanted.len() + choice.skipped.len(), paths.len());
    Ok(choice.wanted.into_iter().map(|file| file.path).collect())
}

/// Of `paths`, those with a `+` before them are wanted.
#[track_caller]
fn check(repo: &str, paths: &[&str]) {
    let all: Vec<&str> = paths.iter().map(|path| path.trim_start_matches('+')).collect();
    let expected: Vec<&str> = paths.iter().filter_map(|path| path.strip_prefix('+')).collect();
    assert_eq!(choice(repo, &all).unwrap(), expected);
}

#[test]
fn a_diffusers_repository_gives_its_parts_and_not_its_pictures() {
    check(
        "a/b",
        &[
            ".gitattributes",
            "README.md",
            "assets/showcase.jpg",
            "+model_index.json",
            "onnx/model.onnx",
            "+scheduler/scheduler_config.json",
            "+text_encoder/config.json",
            "+text_encoder/generation_config.json",
            "+text_encoder/model-00001-of-00003.safetensors",
            "+text_encoder/model-00002-of-00003.safetensors",
            "+text_encoder/model-00003-of-00003.safetensors",
            "+text_encoder/model.safetensors.index.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin",
            "+tokenizer/merges.txt",
            "+tokenizer/tokenizer.json",
            "+transformer/config.json",
            "+transformer/diffusion_pytorch_model.safetensors",
            "transformer/diffusion_pytorch_model.fp16.safetensors",
            "transformer/old/diffusion_pytorch_model.safetensors",
            "+vae/config.json",
            "+vae/diffusion_pytorch_model.safetensors",
            "z_image_turbo_bf16.safetensors",
        ],
    );
}

#[test]
fn shards_are_preferred_to_the_same_weights_in_one_file() {
    check(
        "a/b",
        &[
            "+model_index.json",
            "+vae/m-00001-of-00001.safetensors",
            "+vae/m.safetensors.index.json",
            "vae/m.safetensors",
            "vae/m.bf16.safetensors.index.json",
        ],
    );
    check("a/b", &["+model_index.json", "+vae/m.fp16.safetensors"]);
}

#[test]
fn the_only_model_of_a_repository_is_taken_with_its_configs() {
    check("a/b", &["README.md", "+config.json", "+x-Q4_K_M.gguf", "preview.png"]);
    check(
        "a/b",
        &[
            "+config.json",
            "+tokenizer/tokenizer.json",
            "+tokenizer/merges.txt",
            "+weights.safetensors",
            "+vae.safetensors",
            "+text_encoder.safetensors",
        ],
    );
    check(
        "a/b",
        &[
            "+transformer/0-00001-of-00002.safetensors",
            "+transformer/0-00002-of-00002.safetensors",
            "+vae/0.safetensors",
        ],
    );
}

#[test]
fn a_choice_between_several_models_is_left_to_the_user() {
    let paths = ["x-Q4_0.gguf", "x-Q8_0.gguf", "README.md"];
    let error = choice("a/b", &paths).unwrap_err().to_string();
    assert_eq!(
        error,
        "a/b holds several models: x-Q4_0.gguf, x-Q8_0.gguf\nhint: choose one, as in `zimage models pull a/b:x-Q4_0.gguf`"
    );
    check("a/b:x-Q8_0.gguf", &["x-Q4_0.gguf", "+x-Q8_0.gguf", "README.md"]);
}

#[test]
fn one_file_is_taken_alone_and_an_index_with_its_shards() {
    check("a/b:v/ae.safetensors", &["v/config.json", "+v/ae.safetensors", "t/x.safetensors"]);
    check(
        "a/b:t/m.safetensors.index.json",
        &[
            "+t/m-00001-of-00002.safetensors",
            "+t/m-00002-of-00002.safetensors",
            "+t/m.safetensors.index.json",
            "t/m-x.safetensors",
        ],
    );
    assert!(matches!(choice("a/b:y.safetensors", &["x.safetensors"]), Err(Error::NotFound { .. })));
}

#[test]
fn a_repository_without_weights_is_refused() {
    assert!(matches!(choice("a/b", &["README.md", "config.json", "x.bin"]), Err(Error::NoWeights { .. })));
    assert!(matches!(choice("a/b", &["model_index.json", "vae/x.bin"]), Err(Error::NoWeights { .. })));
}
