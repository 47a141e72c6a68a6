//! The config of a part that lies somewhere: in a file beside its weights, in a GGUF file, or told from the shapes.

use std::path::Path;

use serde_json::Value;

use super::infer;
use crate::container::Container;
use crate::dialect::Reading;
use crate::llama_cpp;
use crate::schema::{Component, TransformerConfig};
use crate::{Error, Result};

/// Where this program writes the configs of the parts into the header of a file, in the order of [`Component::ALL`].
pub(crate) const CONFIG_KEYS: [&str; 3] =
    ["zimage.transformer_config", "zimage.text_encoder_config", "zimage.vae_config"];
/// The same for the scheduler.
pub(crate) const SCHEDULER_KEY: &str = "zimage.scheduler_config";

/// The config of a part in a container, and where it was found: the file beside it, else what its shapes say.
pub(crate) fn config_of(label: &str, container: &Container, component: Component) -> Result<(Value, Option<String>)> {
    let key = CONFIG_KEYS[component as usize];
    if let Some(text) = container.metadata().get(key) {
        let file = format!("{key} of {label}");
        let json = |source| Error::Json { file: file.clone(), source };
        return Ok((serde_json::from_str(text).map_err(json)?, Some(file.clone())));
    }
    let directory = container.files().first().and_then(|file| file.path()).and_then(Path::parent);
    let named = format!("{}_config.json", component.folder());
    for candidate in [&*named, "config.json", component.config_file()] {
        let Some(path) = directory.map(|directory| directory.join(candidate)).filter(|path| path.is_file()) else {
            continue;
        };
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let file = path.display().to_string();
        let value = serde_json::from_slice(&text).map_err(|source| Error::Json { file: file.clone(), source })?;
        if let Some(config) = belonging(component, value) {
            return Ok((config, Some(file)));
        }
    }
    if let (Component::TextEncoder, Some(gguf)) = (component, container.gguf()) {
        return Ok((llama_cpp::text_encoder_config(gguf)?.to_json(), Some(gguf.label().to_owned())));
    }
    let config = infer::config(component, label, &Reading::of(component, container))?;
    Ok((config, None))
}

/// The place of a config in messages.
pub(crate) fn config_place(label: &str, found: Option<String>) -> String {
    found.unwrap_or_else(|| format!("{label}, the config told from shapes"))
}

/// The config, if it is one of this part: several files may share a directory, and so a `config.json`.
fn belonging(component: Component, config: Value) -> Option<Value> {
    let has = |key: &str| config.get(key).is_some();
    match component {
        Component::Transformer if has("text_embed_dim") => Some(of_mlx(&config)),
        Component::Transformer => has("n_refiner_layers").then_some(config),
        Component::TextEncoder => (has("num_hidden_layers") && has("vocab_size")).then_some(config),
        Component::Vae => has("block_out_channels").then_some(config),
    }
}

/// The `config.json` of the original application's MLX directories under the keys of diffusers. It has no epsilon and no
/// scale of the time, which are the same in all published models.
fn of_mlx(config: &Value) -> Value {
    let get = |key: &str| config.get(key).cloned().unwrap_or(Value::Null);
    let or = |key: &str, usual: f64| config.get(key).cloned().unwrap_or_else(|| usual.into());
    serde_json::json!({
        "all_f_patch_size": [1],
        "all_patch_size": [get("patch_size")],
        "axes_dims": get("axes_dims"),
        "axes_lens": get("axes_lens"),
        "cap_feat_dim": get("text_embed_dim"),
        "dim": get("hidden_size"),
        "in_channels": get("in_channels"),
        "n_heads": get("num_attention_heads"),
        "n_kv_heads": get("num_attention_heads"),
        "n_layers": get("num_hidden_layers"),
        "n_refiner_layers": get("n_refiner_layers"),
        "norm_eps": or("norm_eps", 1e-5),
        "qk_norm": true,
        "rope_theta": get("rope_theta"),
        "t_scale": or("t_scale", 1000.0),
    })
}

/// The inverse: the config of a transformer as the original application's MLX directories have it, with the epsilon and
/// the scale of the time beside the keys that it knows.
pub(crate) fn to_mlx(config: &TransformerConfig) -> Value {
    serde_json::json!({
        "hidden_size": config.dim,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.ffn_hidden(),
        "num_hidden_layers": config.n_layers,
        "n_refiner_layers": config.n_refiner_layers,
        "in_channels": config.in_channels,
        "text_embed_dim": config.cap_feat_dim,
        "patch_size": config.patch_size,
        "rope_theta": config.rope_theta,
        "axes_dims": config.axes_dims,
        "axes_lens": config.axes_lens,
        "norm_eps": config.norm_eps,
        "t_scale": config.t_scale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomCheckpoint;

    #[test]
    fn the_mlx_config_of_a_transformer_reads_back() {
        for config in [RandomCheckpoint::turbo(0).transformer, RandomCheckpoint::tiny(0, 500).transformer] {
            let back = belonging(Component::Transformer, to_mlx(&config)).expect("a config of a transformer");
            assert_eq!(TransformerConfig::from_json(&back).expect("a valid config"), config);
        }
    }
}
